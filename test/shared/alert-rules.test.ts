/** Each alert rule of deploy/prometheus fires when what it is for happens, and keeps still when something else does. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

import t from 'tap'
import { parse, stringify } from 'yaml'

import { promtool } from '../support/promtool.ts'

const RULES = resolve('deploy/prometheus/alerts.yaml')

/** A course of events, a sample a minute; whether the alert fires at its end. Values are in Prometheus' notation: `0+6x30` grows by 6 thirty times. */
interface Case {
  readonly alert: string
  readonly when: string
  readonly series: Readonly<Record<string, string>>
  readonly atMinute: number
  readonly fires: boolean
}

const A = 'job="adapter",instance="a"'
const B = 'job="adapter",instance="b"'
const REQUESTS = `adapter_http_requests_total{${A},server_id="files",http_response_status_class=`
const CALLS = `adapter_upstream_tool_calls_total{${A},server_id="files",tool_name="other",result=`
const BREAKER = `adapter_upstream_circuit_breaker_state{${A},server_id="files"}`
const RESTARTS = `adapter_thread_restarts_total{${A},thread="worker"}`
const TRANSITIONS = `adapter_persistence_policy_transitions_total{${A},server_id="global",action=`
const STORE = `adapter_store_operation_duration_seconds_bucket{${A},operation="readSession",le=`
const DELAY = `adapter_event_loop_delay_seconds{${A},thread="primary",stat="p99"}`
const FAILURES = `adapter_upload_failures_total{${A},server_id="files",reason="quota_exceeded"}`
const BATCHES = `adapter_upload_batches_total{${A},server_id="files"}`
const CYCLES = `adapter_cleanup_cycles_total{${A},server_id="global",status=`
const DROPPED = `adapter_telemetry_dropped_total{${A},signal="metrics",reason="export_failed"}`

const CASES: readonly Case[] = [
  {
    alert: 'McpAdapterServerErrors',
    when: 'one request in ten fails',
    series: { [`${REQUESTS}"5xx"}`]: '0+6x30', [`${REQUESTS}"2xx"}`]: '0+54x30' },
    atMinute: 20,
    fires: true,
  },
  {
    alert: 'McpAdapterServerErrors',
    when: 'one request in a hundred fails',
    series: { [`${REQUESTS}"5xx"}`]: '0+1x30', [`${REQUESTS}"2xx"}`]: '0+99x30' },
    atMinute: 20,
    fires: false,
  },
  {
    alert: 'McpAdapterUpstreamCallsTimeOut',
    when: 'one call in five times out',
    series: { [`${CALLS}"timeout"}`]: '0+1x30', [`${CALLS}"success"}`]: '0+4x30' },
    atMinute: 20,
    fires: true,
  },
  {
    alert: 'McpAdapterUpstreamCallsTimeOut',
    when: 'calls fail at once',
    series: { [`${CALLS}"error"}`]: '0+5x30', [`${CALLS}"success"}`]: '0+5x30' },
    atMinute: 20,
    fires: false,
  },
  {
    alert: 'McpAdapterUpstreamBreakerOpen',
    when: 'a breaker is open but for the moments in which it tries',
    series: { [BREAKER]: '0x5 2 1 2 1 2 1 2' },
    atMinute: 12,
    fires: true,
  },
  {
    alert: 'McpAdapterUpstreamBreakerOpen',
    when: 'a breaker was open for a minute',
    series: { [BREAKER]: '0x5 2 0x10' },
    atMinute: 8,
    fires: false,
  },
  {
    alert: 'McpAdapterServersNotReady',
    when: 'a server can not be served',
    series: { [`adapter_adapter_wiring_not_ready_servers{${A},server_id="global"}`]: '0x5 1x10' },
    atMinute: 9,
    fires: true,
  },
  {
    alert: 'McpAdapterThreadsRestart',
    when: 'a worker ends four times in a row',
    series: { [RESTARTS]: '0x10 1 2 3 4x10' },
    atMinute: 15,
    fires: true,
  },
  {
    alert: 'McpAdapterThreadsRestart',
    when: 'a worker ended once',
    series: { [RESTARTS]: '0x10 1x20' },
    atMinute: 15,
    fires: false,
  },
  {
    alert: 'McpAdapterStoreLost',
    when: 'the store was lost for the first time',
    series: { [`${TRANSITIONS}"fail_closed"}`]: '0x10 1x20' },
    atMinute: 12,
    fires: true,
  },
  {
    alert: 'McpAdapterStoreLost',
    when: 'the store came back',
    series: {
      [`${TRANSITIONS}"fail_closed"}`]: '1x40',
      [`${TRANSITIONS}"recovered"}`]: '0x10 1x30',
    },
    atMinute: 12,
    fires: false,
  },
  {
    alert: 'McpAdapterStorageNearlyFull',
    when: 'two replicas show that nineteen bytes of twenty are kept or promised',
    series: {
      [`adapter_stored_bytes{${A},kind="kept"}`]: '18x30',
      [`adapter_stored_bytes{${A},kind="reserved"}`]: '1x30',
      [`adapter_stored_limit_bytes{${A}}`]: '20x30',
      [`adapter_stored_bytes{${B},kind="kept"}`]: '18x30',
      [`adapter_stored_bytes{${B},kind="reserved"}`]: '1x30',
      [`adapter_stored_limit_bytes{${B}}`]: '20x30',
    },
    atMinute: 20,
    fires: true,
  },
  {
    alert: 'McpAdapterStorageNearlyFull',
    when: 'two replicas show that it is half full',
    series: {
      [`adapter_stored_bytes{${A},kind="kept"}`]: '10x30',
      [`adapter_stored_limit_bytes{${A}}`]: '20x30',
      [`adapter_stored_bytes{${B},kind="kept"}`]: '10x30',
      [`adapter_stored_limit_bytes{${B}}`]: '20x30',
    },
    atMinute: 20,
    fires: false,
  },
  {
    alert: 'McpAdapterSessionsNearlyAll',
    when: 'a session in twenty is left',
    series: {
      [`adapter_sessions{${A},standing="active"}`]: '19x30',
      [`adapter_sessions_limit{${A}}`]: '20x30',
    },
    atMinute: 20,
    fires: true,
  },
  {
    alert: 'McpAdapterSessionsNearlyAll',
    when: 'most that the store knows are tombstones',
    series: {
      [`adapter_sessions{${A},standing="active"}`]: '2x30',
      [`adapter_sessions{${A},standing="tombstoned"}`]: '90x30',
      [`adapter_sessions_limit{${A}}`]: '20x30',
    },
    atMinute: 20,
    fires: false,
  },
  {
    alert: 'McpAdapterStoreSlow',
    when: 'operations take up to half a second',
    series: {
      [`${STORE}"0.01"}`]: '0x30',
      [`${STORE}"0.5"}`]: '0+9x30',
      [`${STORE}"+Inf"}`]: '0+9x30',
    },
    atMinute: 20,
    fires: true,
  },
  {
    alert: 'McpAdapterEventLoopBlocked',
    when: 'the primary is half a second late',
    series: { [DELAY]: '0.5x30' },
    atMinute: 10,
    fires: true,
  },
  {
    alert: 'McpAdapterEventLoopBlocked',
    when: 'the primary is in time',
    series: { [DELAY]: '0.01x30' },
    atMinute: 10,
    fires: false,
  },
  {
    alert: 'McpAdapterUploadsFail',
    when: 'no upload has ever succeeded',
    series: { [FAILURES]: '0+1x40', [BATCHES]: '0x40' },
    atMinute: 30,
    fires: true,
  },
  {
    alert: 'McpAdapterUploadsFail',
    when: 'most uploads succeed',
    series: { [FAILURES]: '0+1x40', [BATCHES]: '0+5x40' },
    atMinute: 30,
    fires: false,
  },
  {
    alert: 'McpAdapterMaintenanceFails',
    when: 'each run fails',
    series: { [`${CYCLES}"error"}`]: '0+1x60', [`${CYCLES}"ok"}`]: '0x60' },
    atMinute: 40,
    fires: true,
  },
  {
    alert: 'McpAdapterMaintenanceFails',
    when: 'runs failed while the store was away for two minutes',
    series: { [`${CYCLES}"error"}`]: '0x30 12 24x20', [`${CYCLES}"ok"}`]: '0+1x30 30x2 31+1x20' },
    atMinute: 33,
    fires: false,
  },
  {
    alert: 'McpAdapterTelemetryDropped',
    when: 'the collector is away for long',
    series: { [DROPPED]: '0x5 10+10x40' },
    atMinute: 30,
    fires: true,
  },
]

t.test('every alert rule has a case in which it fires', async (t) => {
  const { groups } = parse(await readFile(RULES, 'utf8')) as {
    groups: { rules: { alert: string }[] }[]
  } // promtool checks the rest
  const tried = new Set(CASES.filter(({ fires }) => fires).map(({ alert }) => alert))
  for (const { alert } of groups.flatMap(({ rules }) => rules)) t.ok(tried.has(alert), alert)
})

t.test('promtool accepts the rules, and they fire when they should', async (t) => {
  const checked = await promtool(['check', 'rules', RULES])
  t.equal(checked.code, 0, checked.output)
  const folder = await mkdtemp(join(tmpdir(), 'adapter-rules-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const file = join(folder, 'test.yaml')
  const tests = CASES.map(({ alert, when, series, atMinute, fires }) => ({
    name: `${alert}: ${when}`,
    interval: '1m',
    input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
    promql_expr_test: [
      {
        expr: `count(ALERTS{alertname="${alert}",alertstate="firing"})`,
        eval_time: `${atMinute}m`,
        exp_samples: fires ? [{ labels: '{}', value: 1 }] : [],
      },
    ],
  }))
  await writeFile(file, stringify({ rule_files: [RULES], evaluation_interval: '1m', tests }))
  const tested = await promtool(['test', 'rules', file])
  t.equal(tested.code, 0, tested.output)
})
