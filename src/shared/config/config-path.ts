/** Which configuration file to load. */

import { existsSync } from 'node:fs'
import { resolve } from 'node:path'

import type { Environment } from './interpolate.ts'
import { ConfigError } from './problems.ts'

/** Names the configuration file when the command line does not. */
const CONFIG_VARIABLE = 'MCP_ADAPTER_CONFIG'
const SYSTEM_PATH = '/etc/remote-mcp-adapter/config.yaml'

/**
 * The first of: the path given on the command line, `MCP_ADAPTER_CONFIG`, `./config.yaml`, the system-wide file.
 * A path that was asked for must exist; throws `ConfigError` naming what was tried.
 */
export function resolveConfigPath(
  cliPath: string | undefined,
  env: Environment,
  cwd: string,
  systemPath: string = SYSTEM_PATH,
): string {
  const asked = [
    { source: '--config', path: cliPath },
    { source: CONFIG_VARIABLE, path: env[CONFIG_VARIABLE] },
  ].find(({ path }) => path !== undefined && path !== '')
  if (asked?.path !== undefined) {
    const path = resolve(cwd, asked.path)
    if (existsSync(path)) return path
    throw notFound(path, `there is no such file (named by ${asked.source})`)
  }
  const places = [resolve(cwd, 'config.yaml'), systemPath]
  const path = places.find((place) => existsSync(place))
  if (path !== undefined) return path
  throw notFound(
    'config.yaml',
    `no configuration file: --config and ${CONFIG_VARIABLE} are not given, and there is none at ${places.join(' or ')}`,
  )
}

function notFound(path: string, message: string): ConfigError {
  return new ConfigError(path, [{ path: '', line: null, column: null, message }])
}
