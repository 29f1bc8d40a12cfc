/** One server and short ways to load a configuration for the tests of the loader. */

import { join } from 'node:path'

import type { Config } from '../../src/shared/config/config.ts'
import type { Environment } from '../../src/shared/config/interpolate.ts'
import { parseConfig } from '../../src/shared/config/load.ts'
import { ConfigError, type ConfigProblem } from '../../src/shared/config/problems.ts'

/** The least that a file needs besides what a test is about. */
export const SERVERS = `servers:
  - id: files
    mount_path: /mcp/files
    upstream: {url: "http://localhost:1/mcp"}
`
/** The example of a distributed deployment, and the variables it needs. */
export const EXAMPLE = join(process.cwd(), 'examples', 'distributed-production.yaml')
export const EXAMPLE_ENV = { MCP_ADAPTER_TOKEN: 'front-door', MCP_ADAPTER_SIGNING_SECRET: 'pen' }

/** Loads a file given as text. */
export function load(text: string, env: Environment = {}): Config {
  return parseConfig({ text, path: 'config.yaml', env }).config
}

/** What is wrong with a file; throws whatever else the loader throws. */
export function problems(text: string, env: Environment = {}): readonly ConfigProblem[] {
  try {
    load(text, env)
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  return []
}

/** Each problem as `line:column path message`. */
export function report(text: string, env: Environment = {}): string[] {
  return problems(text, env).map((p) => `${p.line}:${p.column} ${p.path} ${p.message}`)
}
