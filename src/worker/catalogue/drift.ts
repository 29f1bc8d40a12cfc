/** How the tools of a session differ from what they are pinned to, and what is said of it. Pure. */
import { hash } from 'node:crypto'

import type { JsonObject } from '../../shared/state/records.ts'

import { isJsonObject } from '../adapters/dot-path.ts'
import { changedFields, pinName } from './tool-pin.ts'
import type { ToolPin, ToolPins } from './tool-pin.ts'

/** What became of one tool. */
export type ToolDrift =
  | { readonly kind: 'changed'; readonly fields: readonly string[]; readonly digest: string }
  | { readonly kind: 'new'; readonly digest: string }
  | { readonly kind: 'renamed'; readonly from: string }
  | { readonly kind: 'removed' }

/** By `pinName`; empty when everything is as it was. */
export type Drift = ReadonlyMap<string, ToolDrift>

/** Tools of each kind that are named where drift is told. */
const MAX_NAMED = 20

/** What we say of drift in results, as MCP has it: a name with a prefix. */
const META_KEY = 'remote-mcp-adapter/tool-drift'

/**
 * Compares what was listed with what is pinned. `isWhole`: it is all that there is, so what is missing was removed, or renamed where a new tool has the
 * very same definition. `isShown` tells the tools that the client can see: the others don't matter.
 */
export function driftOf(
  pinned: ToolPins,
  listed: ToolPins,
  options: { readonly isWhole: boolean; readonly isShown: (name: string) => boolean },
): Drift {
  const drift = new Map<string, ToolDrift>()
  const added: [string, ToolPin][] = []
  for (const [name, pin] of listed) {
    if (!options.isShown(name)) continue
    const before = pinned.get(name)
    if (before === undefined) added.push([name, pin])
    else if (before.digest !== pin.digest) {
      const fields = changedFields(before, pin)
      drift.set(name, { kind: 'changed', fields, digest: pin.digest })
    }
  }
  const missing = new Map<string, string>()
  if (options.isWhole) {
    for (const [name, { digest }] of pinned) {
      if (!listed.has(name) && options.isShown(name)) missing.set(name, digest)
    }
  }
  const byDigest = new Map([...missing].map(([name, digest]) => [digest, name]))
  for (const [name, { digest }] of added) {
    const from = byDigest.get(digest)
    byDigest.delete(digest)
    if (from !== undefined) missing.delete(from)
    drift.set(name, from === undefined ? { kind: 'new', digest } : { kind: 'renamed', from })
  }
  for (const name of missing.keys()) drift.set(name, { kind: 'removed' })
  return drift
}

/** One line: `changed=a[description]; new=b; removed=c; renamed=d->e`, and a digest that tells it from every other drift. */
export function summaryOf(drift: Drift): string {
  const names: { [kind in ToolDrift['kind']]: string[] } = {
    changed: [],
    new: [],
    removed: [],
    renamed: [],
  }
  const all: string[] = []
  for (const [name, one] of [...drift].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    all.push(JSON.stringify([name, one]))
    if (one.kind === 'changed') names.changed.push(`${name}[${one.fields.join(',')}]`)
    else if (one.kind === 'renamed') names.renamed.push(`${one.from}->${name}`)
    else names[one.kind].push(name)
  }
  const parts = Object.entries(names)
    .filter(([, list]) => list.length > 0)
    .map(([kind, list]) => {
      const more = list.length > MAX_NAMED ? `,+${list.length - MAX_NAMED}` : ''
      return `${kind}=${list.slice(0, MAX_NAMED).join(',')}${more}`
    })
  return `${parts.join('; ')} #${hash('sha256', all.join(' '), 'base64url').slice(0, 8)}`
}

/** A shaped list for a session that is to be warned: a line before the description of each tool that is not what it was, and all of it in `_meta`. */
export function withWarnings(result: JsonObject, drift: Drift): JsonObject {
  const meta = isJsonObject(result['_meta']) ? result['_meta'] : {}
  return {
    ...result,
    tools: toolsOf(result).map((tool) => {
      const one = driftOfTool(tool, drift)
      return one === undefined || !isJsonObject(tool) ? tool : warned(tool, one)
    }),
    _meta: { ...meta, [META_KEY]: summaryOf(drift) },
  }
}

/** A shaped list with nothing but the tools that are what they were. */
export function withoutDrifted(result: JsonObject, drift: Drift): JsonObject {
  const kept = toolsOf(result).filter((tool) => driftOfTool(tool, drift) === undefined)
  return { ...result, tools: kept }
}

function warned(tool: JsonObject, drift: ToolDrift): JsonObject {
  const what =
    drift.kind === 'changed'
      ? `was changed by its server (${drift.fields.join(', ')})`
      : drift.kind === 'renamed'
        ? 'was given this name by its server'
        : 'was added by its server'
  const line = `[Gateway warning: this tool ${what} since this session first listed its tools.]`
  const { description } = tool
  const isEmpty = typeof description !== 'string' || description === ''
  return { ...tool, description: isEmpty ? line : `${line}\n\n${description}` }
}

function driftOfTool(tool: unknown, drift: Drift): ToolDrift | undefined {
  const name = isJsonObject(tool) ? tool['name'] : undefined
  return typeof name === 'string' ? drift.get(pinName(name)) : undefined
}

function toolsOf(result: JsonObject): readonly unknown[] {
  return Array.isArray(result['tools']) ? result['tools'] : []
}
