/** A log line, as pino makes it and after redaction, as a record for export. */
import type { Attributes, AttributeValue, LogEntry } from './records.ts'

/** Most characters of one attribute. */
const MAX_CHARS = 4_096

/** Fields of a line that are not attributes of the record. */
const OWN = new Set(['level', 'time', 'msg', 'pid', 'hostname', 'err'])

/** Numbers of pino's levels to those of OpenTelemetry. */
const SEVERITIES = new Map([
  [20, 5],
  [30, 9],
  [40, 13],
  [50, 17],
  [60, 21],
])

/** Makes a record of a line. */
export function logEntry(line: Readonly<Record<string, unknown>>): LogEntry {
  const { time, level, msg, err } = line
  const attributes: Record<string, AttributeValue> = { ...exceptionOf(err) }
  for (const [name, value] of Object.entries(line)) {
    if (!OWN.has(name) && value !== null && value !== undefined) attributes[name] = scalar(value)
  }
  return {
    timeMs: typeof time === 'number' ? time : Date.now(),
    severity: SEVERITIES.get(Number(level)) ?? 9,
    text: typeof msg === 'string' ? msg : '',
    attributes,
  }
}

/** Under the names that OpenTelemetry has for it. */
function exceptionOf(err: unknown): Attributes {
  if (typeof err === 'string') return { 'exception.message': clipped(err) }
  if (typeof err !== 'object' || err === null) return {}
  const fields = Object.entries(err).flatMap(([name, value]) => {
    const attribute = EXCEPTION_FIELDS.get(name)
    return attribute === undefined || value === undefined
      ? []
      : [[attribute, scalar(value)] as const]
  })
  return Object.fromEntries(fields)
}

const EXCEPTION_FIELDS = new Map([
  ['type', 'exception.type'],
  ['message', 'exception.message'],
  ['stack', 'exception.stacktrace'],
  ['code', 'exception.code'],
  ['cause', 'exception.cause'],
])

function scalar(value: unknown): AttributeValue {
  if (typeof value === 'number' || typeof value === 'boolean') return value
  return clipped(typeof value === 'string' ? value : JSON.stringify(value))
}

function clipped(text: string): string {
  return text.length > MAX_CHARS ? `${text.slice(0, MAX_CHARS)}…` : text
}
