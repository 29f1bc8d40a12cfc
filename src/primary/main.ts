#!/usr/bin/env node
/** Process entry: arguments, configuration, signals and exit codes (0 fine, 2 bad configuration, 64 bad usage, 69 shared state lost, 1 failed start). */
import { parseArgs } from 'node:util'

import { resolveConfigPath } from '../shared/config/config-path.ts'
import { loadConfig } from '../shared/config/load.ts'
import type { LoadedConfig } from '../shared/config/load.ts'
import { printEffectiveConfig } from '../shared/config/print.ts'
import { ConfigError } from '../shared/config/problems.ts'
import { secretsOf } from '../shared/config/secrets.ts'
import { unbuiltFields } from '../shared/config/unbuilt-fields.ts'
import { openLog } from '../shared/log.ts'
import type { Log } from '../shared/log.ts'
import { mintReplicaId } from '../shared/ids.ts'
import { Redactor } from '../shared/redaction.ts'
import { logEntry } from '../shared/telemetry/log-entry.ts'
import { stateOptions } from '../shared/state/state-options.ts'
import { checkClientTls } from '../shared/upstream-tls.ts'
import { configRisks, logRedisRisks, logRisks } from './doctor/start-checks.ts'
import { setUpEngine } from './engine.ts'
import { startGateway, StoreLostError } from './gateway.ts'
import type { Gateway } from './gateway.ts'
import { TelemetryExport } from './telemetry-export.ts'
import { readTls } from './listener/tls.ts'
import { packageVersion } from './package-version.ts'

const USAGE = `remote-mcp-adapter: an MCP gateway that moves files between clients and remote MCP servers

Usage
  remote-mcp-adapter [serve] [--config F] [--host H] [--port N] [--log-level L]
  remote-mcp-adapter check [--config F]    validates the configuration and prints the effective one, secrets masked
  remote-mcp-adapter doctor [--config F]   tries Redis, the upstreams and the storage root that the configuration names, and says what to do
  remote-mcp-adapter --version
  remote-mcp-adapter --help

The configuration file is --config, else $MCP_ADAPTER_CONFIG, else ./config.yaml, else /etc/remote-mcp-adapter/config.yaml.
Exit codes: 0 done, 1 start failed or doctor found a problem, 2 configuration invalid, 64 wrong arguments,
69 the shared state could not be reached while state_persistence.unavailable_policy is exit.
`

/** EX_UNAVAILABLE of sysexits.h. */
const STORE_LOST = 69

const LOG_LEVELS = ['debug', 'info', 'warning', 'error', 'critical'] as const

const STOP_SIGNALS = ['SIGTERM', 'SIGINT'] as const

interface Arguments {
  readonly command: 'serve' | 'check' | 'doctor' | 'help' | 'version'
  readonly config: string | undefined
  readonly host: string | undefined
  readonly port: number | undefined
  readonly logLevel: string | undefined
}

class UsageError extends Error {}

const NO_ARGUMENTS = {
  config: undefined,
  host: undefined,
  port: undefined,
  logLevel: undefined,
} as const

/** For everything that this process writes; knows no secret until a configuration is read. */
const redactor = new Redactor({ values: [] })

// What nobody caught would be printed as it is, secrets included.
process.on('uncaughtException', (error) => {
  fail(1, `remote-mcp-adapter: ${error.stack ?? String(error)}\n`)
  process.exit()
})

await main()

async function main(): Promise<void> {
  try {
    const args = readArguments(process.argv.slice(2))
    switch (args.command) {
      case 'help':
        process.stdout.write(USAGE)
        return
      case 'version':
        process.stdout.write(`${packageVersion()}\n`)
        return
      case 'check':
        check(args)
        return
      case 'doctor': {
        // It brings the client of Redis, which nobody else here needs.
        const { runDoctor } = await import('./doctor/doctor.ts')
        process.exitCode = await runDoctor(load(args), (line) =>
          process.stdout.write(`${redactor.text(line)}\n`),
        )
        return
      }
      case 'serve':
        await serve(args)
    }
  } catch (error) {
    if (error instanceof UsageError) fail(64, `${error.message}\n\n${USAGE}`)
    else if (error instanceof ConfigError) fail(2, `${error.message}\n`)
    else if (error instanceof StoreLostError)
      fail(STORE_LOST, `remote-mcp-adapter: ${error.message}\n`)
    else fail(1, `remote-mcp-adapter: ${error instanceof Error ? error.message : String(error)}\n`)
  }
}

function fail(code: number, text: string): void {
  process.stderr.write(redactor.text(text))
  process.exitCode = code
}

function readArguments(argv: readonly string[]): Arguments {
  const { values, positionals } = parse(argv)
  const [command = 'serve', ...rest] = positionals
  if (rest.length > 0) throw new UsageError(`unexpected argument: ${rest[0] ?? ''}`)
  if (values.help === true) return { ...NO_ARGUMENTS, command: 'help' }
  if (values.version === true) return { ...NO_ARGUMENTS, command: 'version' }
  if (command !== 'serve' && command !== 'check' && command !== 'doctor')
    throw new UsageError(`unknown command: ${command}`)
  const port = values.port === undefined ? undefined : Number(values.port)
  if (port !== undefined && (!Number.isInteger(port) || port < 0 || port > 65_535)) {
    throw new UsageError(
      `--port takes a number from 0 (any free port) to 65535, not ${values.port ?? ''}`,
    )
  }
  const logLevel = values['log-level']
  if (logLevel !== undefined && !LOG_LEVELS.some((level) => level === logLevel)) {
    throw new UsageError(`--log-level takes one of ${LOG_LEVELS.join(', ')}, not ${logLevel}`)
  }
  return { command, config: values.config, host: values.host, port, logLevel }
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        config: { type: 'string' },
        host: { type: 'string' },
        port: { type: 'string' },
        'log-level': { type: 'string' },
        version: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    })
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
}

function load(args: Arguments): LoadedConfig {
  const loaded = loadConfig({
    path: resolveConfigPath(args.config, process.env, process.cwd()),
    env: process.env,
  })
  redactor.learn(secretsOf(loaded.config))
  return loaded
}

function check(args: Arguments): void {
  const loaded = load(args)
  // Reads the files that the configuration names.
  stateOptions(loaded.config)
  readTls(loaded.config.core)
  checkClientTls(loaded.config.servers)
  process.stdout.write(printEffectiveConfig(loaded))
  const unbuilt = unbuiltFields(loaded)
  if (unbuilt.length > 0)
    process.stderr.write(
      `warning: accepted, but without effect in this version: ${unbuilt.join(', ')}\n`,
    )
  for (const { subject, text } of configRisks(loaded))
    process.stderr.write(`warning: ${subject}: ${text}\n`)
}

async function serve(args: Arguments): Promise<void> {
  setUpEngine()
  const loaded = load(args)
  const config = {
    ...loaded.config,
    core: {
      ...loaded.config.core,
      ...(args.host === undefined ? {} : { host: args.host }),
      ...(args.port === undefined ? {} : { port: args.port }),
      ...(args.logLevel === undefined
        ? {}
        : { logLevel: LOG_LEVELS.find((level) => level === args.logLevel) ?? 'info' }),
    },
  }
  const replicaId = mintReplicaId()
  const telemetry = TelemetryExport.of(config.telemetry, { replicaId, version: packageVersion() })
  const log = openLog(config.core.logLevel, 'primary', redactor, {
    fields: { replica: replicaId },
    onLine:
      telemetry?.exportsLogs === true ? (line) => telemetry.outbox.log(logEntry(line)) : undefined,
  })
  const unbuilt = unbuiltFields(loaded)
  if (unbuilt.length > 0)
    log.warn(
      { fields: unbuilt },
      'configuration fields accepted, but without effect in this version',
    )
  await logRisks(loaded, log)
  const gateway = await startGateway(config, { log, redactor, replicaId, telemetry })
  log.info(
    {
      host: config.core.host,
      port: gateway.port,
      workers: gateway.workers,
      listener: gateway.build,
    },
    'listening',
  )
  // Before it is told that we listen: who hears that may send a signal at once.
  stopOnSignal(gateway, log)
  // On standard output, whatever the log level: what starts us may wait for it.
  process.stdout.write(`remote-mcp-adapter listening on ${config.core.host}:${gateway.port}\n`)
  stopWhenLost(gateway, log)
  await logRedisRisks(loaded, log)
}

/** As `unavailable_policy: exit` asks. A signal that came before decides about the exit code. */
function stopWhenLost(gateway: Gateway, log: Log): void {
  void gateway.storeLost.then(async () => {
    log.error({}, 'stopping, because the shared state can not be reached')
    await gateway.stop().catch((error: unknown) => log.error({ err: error }, 'stopping failed'))
    process.exit(STORE_LOST)
  })
}

/** The first signal has it stop, the second has it hurry, and the third ends it as if nobody listened. */
function stopOnSignal(gateway: Gateway, log: Log): void {
  const hurry = (signal: NodeJS.Signals): void => {
    log.warn({ signal }, 'stopping at once')
    unlisten(hurry)
    gateway.hurry()
  }
  const stop = (signal: NodeJS.Signals): void => {
    log.info({ signal }, 'stopping')
    unlisten(stop)
    listen(hurry)
    gateway.stop().then(
      () => process.exit(0),
      (error: unknown) => fail(1, `remote-mcp-adapter: ${String(error)}\n`),
    )
  }
  listen(stop)
}

function listen(listener: (signal: NodeJS.Signals) => void): void {
  for (const name of STOP_SIGNALS) process.on(name, listener)
}

function unlisten(listener: (signal: NodeJS.Signals) => void): void {
  for (const name of STOP_SIGNALS) process.off(name, listener)
}
