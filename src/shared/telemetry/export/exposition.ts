/** Prometheus' text format, version 0.0.4. */
import { specOf } from '../catalogue.ts'
import type { MetricName } from '../catalogue.ts'
import type { LabelList } from '../delta.ts'
import type { Point } from './totals.ts'

/** Metrics with a HELP and a TYPE line each. */
export function renderExposition(
  metrics: Iterable<{ readonly name: MetricName; readonly points: readonly Point[] }>,
): string {
  const lines: string[] = []
  for (const { name, points } of metrics) {
    const spec = specOf(name)
    lines.push(`# HELP ${name} ${escapeHelp(spec.description)}`, `# TYPE ${name} ${spec.kind}`)
    const names = Object.keys(spec.labels).map(labelName)
    for (const point of points) {
      if (spec.kind === 'histogram') lines.push(...histogramLines(name, names, point, spec.bounds))
      else lines.push(`${name}${labelText(names, point.labels)} ${numberText(point.value)}`)
    }
  }
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`
}

function histogramLines(
  name: string,
  names: readonly string[],
  point: Point,
  bounds: readonly number[],
): string[] {
  let below = 0
  const buckets = [...bounds, Infinity].map((bound, index) => {
    below += point.buckets[index] ?? 0
    const labels = labelText([...names, 'le'], [...point.labels, numberText(bound)])
    return `${name}_bucket${labels} ${below}`
  })
  const labels = labelText(names, point.labels)
  return [
    ...buckets,
    `${name}_sum${labels} ${numberText(point.sum)}`,
    `${name}_count${labels} ${numberText(point.value)}`,
  ]
}

/** Label names have no dots here. */
function labelName(name: string): string {
  return name.replaceAll('.', '_')
}

function labelText(names: readonly string[], values: LabelList): string {
  if (names.length === 0) return ''
  return `{${names.map((name, index) => `${name}="${escapeValue(values[index] ?? '')}"`).join(',')}}`
}

function numberText(value: number): string {
  if (value === Infinity) return '+Inf'
  return value === -Infinity ? '-Inf' : String(value)
}

function escapeHelp(text: string): string {
  return text.replaceAll('\\', String.raw`\\`).replaceAll('\n', String.raw`\n`)
}

function escapeValue(text: string): string {
  return escapeHelp(text).replaceAll('"', String.raw`\"`)
}
