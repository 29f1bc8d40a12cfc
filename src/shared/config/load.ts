/** From the YAML file and the environment to a frozen `Config`, or a list of everything that is wrong with it. */

import { readFileSync } from 'node:fs'

import type { Config } from './config.ts'
import { checkRules } from './cross-field.ts'
import { explainIssue, problemAt } from './explain.ts'
import { resolveDocument, toConfig, type EffectiveDocument } from './inheritance.ts'
import type { Environment } from './interpolate.ts'
import { ConfigError } from './problems.ts'
import { readYaml } from './read-yaml.ts'
import { documentSchema, type ConfigDocument } from './schema/document.ts'

/** Overrides `core.shutdown_timeout_seconds`. */
const SHUTDOWN_TIMEOUT_VARIABLE = 'MCP_ADAPTER_SHUTDOWN_TIMEOUT_SECONDS'

/** A configuration that was loaded. */
export interface LoadedConfig {
  /** The file it came from. */
  readonly path: string
  /** What the program reads. */
  readonly config: Config
  /** The same in the shape of the file, with defaults and inheritance written out. Holds secrets. */
  readonly effective: EffectiveDocument
  /** Only what the operator wrote, with variables filled in. Holds secrets. */
  readonly written: unknown
}

/** Reads, checks and resolves a configuration file; throws `ConfigError` and nothing else. */
export function loadConfig(options: {
  readonly path: string
  readonly env: Environment
}): LoadedConfig {
  return parseConfig({ ...options, text: readText(options.path) })
}

/** The same for text that is already in memory; `path` only names it in messages. */
export function parseConfig(options: {
  readonly text: string
  readonly path: string
  readonly env: Environment
}): LoadedConfig {
  const { text, path, env } = options
  const { tree, places } = readYaml(text, env, path)
  const parsed = documentSchema.safeParse(tree)
  if (!parsed.success) {
    throw new ConfigError(
      path,
      parsed.error.issues.flatMap((issue) => explainIssue(issue, tree, places)),
    )
  }
  const violations = checkRules(parsed.data)
  if (violations.length > 0) {
    throw new ConfigError(
      path,
      violations.map((rule) => problemAt(places, rule.path, 'value', rule.message)),
    )
  }
  const effective = resolveDocument(withEnvironment(parsed.data, env, path))
  return deepFreeze({ path, config: toConfig(effective), effective, written: tree })
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new ConfigError(path, [
      { path: '', line: null, column: null, message: `can't be read: ${reason}` },
    ])
  }
}

function withEnvironment(document: ConfigDocument, env: Environment, path: string): ConfigDocument {
  const text = env[SHUTDOWN_TIMEOUT_VARIABLE]
  if (text === undefined || text === '') return document
  const seconds = /^\s*\+?\d+\s*$/.test(text) ? Number(text) : Number.NaN
  if (!Number.isSafeInteger(seconds) || seconds < 1) {
    const message = `the environment variable ${SHUTDOWN_TIMEOUT_VARIABLE} must be a whole number of seconds, at least 1`
    throw new ConfigError(path, [{ path: '', line: null, column: null, message }])
  }
  return { ...document, core: { ...document.core, shutdown_timeout_seconds: seconds } }
}

/** Freezes a tree in place and returns it. */
function deepFreeze<T>(tree: T): T {
  if (typeof tree !== 'object' || tree === null || Object.isFrozen(tree)) return tree
  Object.freeze(tree)
  for (const value of Object.values(tree)) deepFreeze(value)
  return tree
}
