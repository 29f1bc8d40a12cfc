/** The catalogue of metrics, and what has to agree with it: the code, the page, the dashboard and the alert rules. */
import { readFileSync } from 'node:fs'

import t from 'tap'
import type { Test } from 'tap'
import { parse } from 'yaml'

import { isMetricName, METRIC_NAMES, specOf } from '../../src/shared/telemetry/catalogue.ts'
import { updateTelemetryPage } from '../../src/shared/telemetry/reference.ts'
import { readSources } from '../architecture/sources.ts'

t.test('every metric is recorded somewhere, but for those that are listed', async (t) => {
  const sources = readSources().filter(
    ({ path }) => !/^shared\/telemetry\/\w+-metrics\.ts$/.test(path),
  )
  const unused = METRIC_NAMES.filter(
    (name) => !sources.some(({ text }) => text.includes(`'${name}'`)),
  )
  t.same(unused, [], 'everything is recorded somewhere')
})

t.test('names and units follow the conventions of both worlds', async (t) => {
  for (const name of METRIC_NAMES) {
    const spec = specOf(name)
    t.match(name, /^adapter_[a-z0-9_]+$/)
    t.equal(name.endsWith('_total'), spec.kind === 'counter', `${name}: _total is for counters`)
    if (spec.unit === 's') t.match(name, /_seconds(_total)?$/, name)
    if (spec.unit === 'By') t.match(name, /_bytes(_total|_in_flight)?$/, name)
    if (spec.kind === 'histogram')
      t.same(
        spec.bounds.toSorted((a, b) => a - b),
        spec.bounds,
        `${name}: bounds ascend`,
      )
    for (const label of Object.keys(spec.labels))
      t.match(label, /^[a-z][a-z0-9_.]*$/, `${name}: ${label}`)
    t.match(spec.description, /\w.*\.$/, `${name} says what it tells`)
  }
})

t.test('the page lists the catalogue as it is', async (t) => {
  const page = readFileSync('docs/telemetry.md', 'utf8')
  t.equal(page, updateTelemetryPage(page), 'run npm run docs')
  t.throws(() => updateTelemetryPage('no markers'), /must contain/)
})

t.test('the alert rules use metrics and labels that there are', async (t) => {
  const rules = parse(readFileSync('deploy/prometheus/alerts.yaml', 'utf8')) as {
    groups: { rules: { alert: string; expr: string; annotations: { summary: string } }[] }[]
  } // promtool checks the rest
  const all = rules.groups.flatMap((group) => group.rules)
  t.ok(all.length > 8)
  for (const { alert, expr, annotations } of all) {
    t.ok(annotations.summary.length > 10, alert)
    checkExpression(t, alert, expr)
  }
})

t.test('the dashboard uses metrics and labels that there are, and shows nearly all', async (t) => {
  const text = readFileSync('deploy/grafana/remote-mcp-adapter.json', 'utf8')
  const dashboard = JSON.parse(text) as {
    panels: { title: string; targets?: { expr: string }[] }[]
  } // only what is looked at here
  const shown = new Set<string>()
  for (const { title, targets = [] } of dashboard.panels)
    for (const { expr } of targets)
      for (const name of checkExpression(t, title, expr)) shown.add(name)
  const absent = METRIC_NAMES.filter((name) => !shown.has(name))
  t.same(absent, [
    'adapter_build_info',
    'adapter_process_start_time_seconds',
    'adapter_telemetry_label_overflow_total',
  ])
})

/** Every name and label of an expression must be in the catalogue; answers the metrics. */
function checkExpression(t: Test, where: string, expression: string): readonly string[] {
  const found = [...expression.matchAll(/\b(adapter_[a-z0-9_]+)(?:\{([^}]*)\})?(\[)?/g)]
  const names: string[] = []
  for (const [, written = '', matchers = ''] of found) {
    if (written === 'adapter_route_group') continue
    const name = written.replace(/_bucket$/, '')
    t.ok(isMetricName(name), `${where}: ${name}`)
    if (!isMetricName(name)) continue
    names.push(name)
    const spec = specOf(name)
    t.equal(written.endsWith('_bucket'), spec.kind === 'histogram', `${where}: ${written}`)
    const labels = new Set(Object.keys(spec.labels).map((label) => label.replaceAll('.', '_')))
    for (const [, label = ''] of matchers.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g))
      t.ok(label === 'instance' || labels.has(label), `${where}: ${name} has ${label}`)
  }
  t.ok(names.length > 0, `${where} asks for something`)
  return names
}
