/** The tables of `docs/telemetry.md`, made from the catalogue. */
import { renderTable } from '../config/reference.ts'
import { FILE_METRICS } from './file-metrics.ts'
import type { LabelValues, MetricSpec } from './metric.ts'
import { PROCESS_METRICS } from './process-metrics.ts'
import { REQUEST_METRICS } from './request-metrics.ts'
import { STATE_METRICS } from './state-metrics.ts'

const BEGIN = '<!-- generated from the catalogue: begin -->'
const END = '<!-- generated from the catalogue: end -->'

const SECTIONS: Readonly<Record<string, Readonly<Record<string, MetricSpec>>>> = {
  Requests: REQUEST_METRICS,
  Files: FILE_METRICS,
  'Sessions and state': STATE_METRICS,
  'Process and telemetry': PROCESS_METRICS,
}

/** The page with everything between its two markers replaced; throws when a marker is missing. */
export function updateTelemetryPage(page: string): string {
  const begin = page.indexOf(BEGIN)
  const end = page.indexOf(END)
  if (begin < 0 || end < begin) throw new Error(`the page must contain ${BEGIN} and ${END}`)
  return `${page.slice(0, begin + BEGIN.length)}\n\n${renderCatalogue()}\n${page.slice(end)}`
}

function renderCatalogue(): string {
  const sections = Object.entries(SECTIONS).map(([title, metrics]) => {
    const rows = Object.entries(metrics).map(([name, spec]) => [
      `\`${name}\``,
      `${kindText(spec)}, ${spec.unit}`,
      spec.description,
      labelsText(spec),
    ])
    const table = renderTable(['Metric', 'Kind, unit', 'What it tells', 'Labels'], rows)
    return [`### ${title}`, '', ...table, ''].join('\n')
  })
  return sections.join('\n')
}

function kindText(spec: MetricSpec): string {
  if (spec.kind !== 'gauge') return spec.kind
  return spec.merge === 'sum' ? 'gauge (sum)' : 'gauge (largest)'
}

function labelsText({ labels }: MetricSpec): string {
  const texts = Object.entries(labels).map(([name, values]) => `\`${name}\`: ${valuesText(values)}`)
  return texts.length === 0 ? 'none' : texts.join('<br>')
}

function valuesText(values: LabelValues): string {
  // An array is a list of values, whatever the compiler makes of a read-only one.
  return 'from' in values ? values.from : values.map((value) => `\`${value}\``).join(', ')
}
