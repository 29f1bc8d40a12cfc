/**
 * What a session's tools are pinned by: a digest of each definition, as the upstream sent it. Not of what is made of it: so a restart with other settings,
 * or a replica that has them already, judges alike, and nothing that cleaning would hide can change unseen. Pure.
 */
import { hash } from 'node:crypto'

import type { JsonObject } from '../../shared/state/records.ts'

import { isJsonObject } from '../adapters/dot-path.ts'
import { MAX_SCHEMA_DEPTH, UnfitToolError } from './schema-text.ts'

/** Most tools that are pinned in a session. */
export const MAX_PINNED_TOOLS = 4_096

/** Of one definition, its name apart. */
export interface ToolPin {
  readonly digest: string
  /** Two characters for each of `PINNED_FIELDS`: enough to say what changed, not to decide that nothing did. */
  readonly fields: string
}

/** By `pinName`. */
export type ToolPins = ReadonlyMap<string, ToolPin>

/** The last stands for all others. */
const PINNED_FIELDS = [
  'title',
  'description',
  'inputSchema',
  'outputSchema',
  'annotations',
  'icons',
  'execution',
  '_meta',
  'other fields',
] as const

/** 144 bits, in base64url. */
const DIGEST_CHARS = 24
const FIELD_CHARS = 2
const PLAIN_NAME = /^[\w./ -]{1,128}$/

/** A tool's name as pins know it: one that is long or odd has a digest in its place. */
export function pinName(name: string): string {
  return PLAIN_NAME.test(name) ? name : `sha256:${hash('sha256', name, 'base64url')}`
}

/** Throws `UnfitToolError`. */
export function pinOf(tool: JsonObject): ToolPin {
  const { name: _name, ...rest } = tool
  const known = PINNED_FIELDS.slice(0, -1)
  const texts: string[] = known.map((field) => canonical(rest[field], 0))
  const others = Object.keys(rest).filter((field) => !known.some((one) => one === field))
  texts.push(canonical(Object.fromEntries(others.map((field) => [field, rest[field]])), 0))
  const digests = texts.map((text) => hash('sha256', text, 'base64url'))
  return {
    digest: hash('sha256', digests.join(' '), 'base64url').slice(0, DIGEST_CHARS),
    fields: digests.map((digest) => digest.slice(0, FIELD_CHARS)).join(''),
  }
}

/** Two tools of one name are pinned as one: a client may take either. */
export function pinOfBoth(one: ToolPin, other: ToolPin): ToolPin {
  const digest = hash('sha256', `${one.digest} ${other.digest}`, 'base64url')
  return { digest: digest.slice(0, DIGEST_CHARS), fields: other.fields }
}

/** The fields that differ. */
export function changedFields(before: ToolPin, now: ToolPin): readonly string[] {
  const changed = PINNED_FIELDS.filter((_field, index) => {
    const at = index * FIELD_CHARS
    return before.fields.slice(at, at + FIELD_CHARS) !== now.fields.slice(at, at + FIELD_CHARS)
  })
  return changed.length === 0 ? ['definition'] : changed
}

/** Pins as the state store keeps them; the same text for the same pins. */
export function packPins(pins: ToolPins): string {
  const tools = [...pins].map(([name, { digest, fields }]) => [name, digest, fields])
  tools.sort(([one = ''], [other = '']) => (one < other ? -1 : 1))
  return JSON.stringify({ v: 1, tools })
}

/** Undefined for a text of another version. */
export function unpackPins(text: string): ToolPins | undefined {
  const value: unknown = JSON.parse(text)
  if (!isJsonObject(value) || value['v'] !== 1 || !Array.isArray(value['tools'])) return undefined
  const pins = new Map<string, ToolPin>()
  for (const tool of value['tools']) {
    if (!Array.isArray(tool)) return undefined
    const [name, digest, fields]: unknown[] = tool
    pins.set(String(name), { digest: String(digest), fields: String(fields) })
  }
  return pins
}

/** JSON with sorted keys: the order of keys means nothing. */
function canonical(value: unknown, depth: number): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? ''
  if (depth > MAX_SCHEMA_DEPTH) throw new UnfitToolError('nested too deep')
  if (Array.isArray(value)) {
    return `[${value.map((item) => canonical(item, depth + 1)).join(',')}]`
  }
  const members = Object.entries(value)
  members.sort(([one], [other]) => (one < other ? -1 : 1))
  return `{${members.map(([key, item]) => `${JSON.stringify(key)}:${canonical(item, depth + 1)}`).join(',')}}`
}
