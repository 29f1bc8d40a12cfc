/** What requests notice of a telemetry collector: with none, a good one, and those that are away, silent or talk nonsense. */
import { createServer } from 'node:http'
import type { RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'

import { freePort } from '../support/free-port.ts'
import type { Contender } from '../support/measure.ts'
import type { Replica } from '../support/replica.ts'
import { series } from '../support/rounds.ts'
import { median } from '../support/statistics.ts'
import { compare, comparisonTable, echoContender } from './comparison.ts'
import type { Bench, Scenario } from './scenario.ts'

/** Well below saturation, with as many replicas up as there are collectors. */
const PER_SECOND = 1_000

/** What each kind of collector does with an export; undefined does not listen. */
const COLLECTORS: Readonly<Record<string, RequestListener | undefined>> = {
  'collector that takes all': (request, response) => {
    request.resume().once('end', () => response.end())
  },
  'collector that is away': undefined,
  'collector that never answers': (request) => void request.resume(),
  'collector that talks nonsense': (request, response) => {
    request.resume().once('end', () => {
      response.setHeader('content-type', 'application/x-protobuf')
      response.end('\u0007nonsense')
    })
  },
}
const WITHOUT = 'no telemetry'

/** See the file comment. */
export const collectors: Scenario = {
  name: 'collectors',
  rows: ['telemetry'],
  async run(bench) {
    const stops: (() => Promise<void>)[] = []
    const contenders: Record<string, Contender> = {}
    try {
      contenders[WITHOUT] = await contender(bench, await started({}))
      for (const [name, manner] of Object.entries(COLLECTORS)) {
        // oxlint-disable-next-line no-await-in-loop -- replicas start one after the other
        const url = manner === undefined ? await nobody() : await listening(manner)
        // oxlint-disable-next-line no-await-in-loop
        contenders[name] = await contender(bench, await started(exporting(url)))
      }
      const samples = await compare(bench, contenders)
      const table = comparisonTable(
        `Calls at ${PER_SECOND} requests/s with metrics, logs and traces sent each second to`,
        samples,
      )
      const without = series(samples, WITHOUT, (sample) => sample.p99Ms)
      const ratioOf = (name: string): string => {
        const ratios = series(samples, name, (sample) => sample.p99Ms).map(
          (value, round) => value / (without[round] ?? NaN),
        )
        return `${median(ratios).toFixed(2)}×`
      }
      return {
        measured: [],
        details: [
          {
            ...table,
            columns: [...table.columns, `p99 against ${WITHOUT}`],
            rows: table.rows.map((row) => row.concat(ratioOf(row[0] ?? ''))),
          },
        ],
      }
    } finally {
      await Promise.all(stops.map((stop) => stop()))
    }

    async function started(telemetry: object): Promise<Replica> {
      const replica = await bench.replica({ telemetry })
      stops.push(() => replica.stop())
      return replica
    }

    async function listening(manner: RequestListener): Promise<string> {
      const server = createServer(manner)
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      stops.push(async () => {
        server.closeAllConnections()
        await new Promise((resolve) => server.close(resolve))
      })
      return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    }
  },
}

async function nobody(): Promise<string> {
  return `http://127.0.0.1:${await freePort()}`
}

async function contender(bench: Bench, replica: Replica): Promise<Contender> {
  const echo = await echoContender(bench, replica.pid, replica.target)
  return {
    ...echo,
    order: { kind: 'pace', traffic: echo.order.traffic, perSecond: PER_SECOND },
  }
}

/** Every signal, as often as can be set. */
function exporting(url: string): object {
  return {
    enabled: true,
    transport: 'http',
    endpoint: `${url}/v1/metrics`,
    logs_endpoint: `${url}/v1/logs`,
    emit_logs: true,
    export_interval_seconds: 1,
    periodic_flush_seconds: 1,
    export_timeout_seconds: 2,
    log_batch_schedule_delay_millis: 1_000,
    shutdown_drain_timeout_seconds: 1,
    traces: { enabled: true, endpoint: `${url}/v1/traces`, schedule_delay_millis: 1_000 },
  }
}
