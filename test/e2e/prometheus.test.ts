/** Metrics as Prometheus gets them: on the adapter's port or one of their own, as promtool wants them. */
import { spawnSync } from 'node:child_process'

import t from 'tap'

import { eventually } from '../support/eventually.ts'
import { FileRig } from '../support/file-rig.ts'
import { promtool } from '../support/promtool.ts'
import { startReplica } from '../support/replica.ts'
import { noteSecrets } from '../support/secret-scan.ts'

t.setTimeout(300_000)

const TOKEN = 'front-door-token-2d81b7'
noteSecrets([TOKEN])
const AUTH = { 'x-mcp-adapter-auth-token': TOKEN }

t.test('promtool finds nothing to complain of in what real traffic makes', async (t) => {
  const rig = await FileRig.start({
    core: { workers: 2 },
    telemetry: { periodic_flush_seconds: 1, prometheus: { enabled: true } },
  })
  t.teardown(() => rig.stop())
  const session = await rig.openSession()
  await rig.call(session, 'echo', { text: 'x' })
  await rig.upload(session, 'hello')
  await rig.call(session, 'write_report', { filename: 'a.txt', content: 'b' })
  await fetch(`${rig.url}/nothing`)
  let text = ''
  await eventually('the workers have told of it', async () => {
    text = await (await fetch(`${rig.url}/metrics`)).text()
    return (
      text.includes('adapter_upload_files_total{server_id="files"} 1') &&
      /adapter_upstream_tool_calls_total\{.*tool_name="write_report".*\} 1/.test(text)
    )
  })
  const checked = await promtool(['check', 'metrics'], text)
  t.equal(checked.output, '')
  t.equal(checked.code, 0)
  t.match(text, /^# TYPE adapter_http_request_duration_seconds histogram$/m)
  t.match(text, /adapter_http_request_duration_seconds_bucket\{.*le="\+Inf"\} \d+/)
  t.match(text, /adapter_build_info\{version="[^"]+",node="v[^"]+",listener="[^"]+"\} 1/)
  t.match(text, /adapter_workers_ready 2/)
  const head = await fetch(`${rig.url}/metrics`, { method: 'HEAD' })
  t.equal(head.status, 200)
  t.equal(head.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8')
  t.equal((await fetch(`${rig.url}/metrics`, { method: 'POST', body: 'x' })).status, 405)
  t.equal((await fetch(`${rig.url}/metrics/more`)).status, 404)
})

t.test('buckets of a histogram are cumulated and agree with its count', async (t) => {
  const rig = await FileRig.start({
    core: { workers: 1 },
    telemetry: { prometheus: { enabled: true, path: '/internal/metrics' } },
  })
  t.teardown(() => rig.stop())
  for (let i = 0; i < 7; i++) await (await fetch(`${rig.url}/livez`)).text()
  const text = await (await fetch(`${rig.url}/internal/metrics`)).text()
  const of = (suffix: string): number[] =>
    [
      ...text.matchAll(
        new RegExp(
          `^adapter_http_request_duration_seconds_${suffix}\\{[^}]*livez[^}]*\\} (\\S+)$`,
          'gm',
        ),
      ),
    ].map(([, value]) => Number(value))
  const buckets = of('bucket')
  t.equal(buckets.length, 17)
  t.same(
    buckets.toSorted((a, b) => a - b),
    buckets,
  )
  t.equal(buckets.at(-1), 7)
  t.same(of('count'), [7])
  t.equal((await fetch(`${rig.url}/metrics`)).status, 404, 'only where it is configured')
})

t.test('on the port of the adapter a token is asked for while authentication is on', async (t) => {
  const rig = await FileRig.start({
    core: { workers: 1, auth: { enabled: true, token: TOKEN } },
    telemetry: { prometheus: { enabled: true } },
  })
  t.teardown(() => rig.stop())
  const refused = await fetch(`${rig.url}/metrics`)
  t.equal(refused.status, 401)
  t.notMatch(await refused.text(), 'adapter_http')
  t.equal((await fetch(`${rig.url}/metrics`, { headers: AUTH })).status, 200)
  const posted = await fetch(`${rig.url}/metrics`, { method: 'POST', headers: AUTH, body: 'x' })
  t.equal(posted.status, 405, 'they are only read')
  t.equal(posted.headers.get('allow'), 'GET, HEAD')
  const bearer = { authorization: `Bearer ${TOKEN}` }
  const shown = await fetch(`${rig.url}/metrics`, { headers: bearer })
  t.equal(shown.status, 200)
  t.match(await shown.text(), /adapter_auth_rejections_total\{server_id="global".*\} 1/)
})

t.test(
  'on a port of their own metrics are shown without a token, and nothing else is',
  async (t) => {
    const rig = await FileRig.start({
      core: { workers: 1, auth: { enabled: true, token: TOKEN } },
      telemetry: { periodic_flush_seconds: 1, prometheus: { enabled: true, port: 0 } },
    })
    t.teardown(() => rig.stop())
    const [, port = ''] = /"port":(\d+)[^\n]*metrics are shown/.exec(rig.replica.logs()) ?? []
    t.ok(port, 'the log says where')
    const own = `http://127.0.0.1:${port}`
    await eventually('the primary has told of itself', async () => {
      const shown = await fetch(`${own}/metrics`)
      return shown.status === 200 && (await shown.text()).includes('adapter_build_info')
    })
    t.equal((await fetch(`${own}/healthz`)).status, 404)
    t.equal((await fetch(`${own}/metrics`, { method: 'DELETE' })).status, 405)
    t.equal((await fetch(`${rig.url}/metrics`, { headers: AUTH })).status, 404)
  },
)

t.test('counters that alerts wait for are there before anything happens', async (t) => {
  const rig = await FileRig.start({
    core: { workers: 1 },
    telemetry: { periodic_flush_seconds: 1, prometheus: { enabled: true } },
  })
  t.teardown(() => rig.stop())
  const text = await (await fetch(`${rig.url}/metrics`)).text()
  for (const series of [
    'adapter_thread_restarts_total{thread="worker"} 0',
    'adapter_thread_restarts_total{thread="state"} 0',
    'adapter_cleanup_cycles_total{server_id="global",status="error"} 0',
    'adapter_upload_batches_total{server_id="files"} 0',
  ])
    t.ok(text.includes(series), series)
})

t.test('a port that is taken is told at the start', async (t) => {
  const rig = await FileRig.start({ core: { workers: 1 } })
  t.teardown(() => rig.stop())
  const server = { id: 'a', mount_path: '/a', upstream: { url: 'http://127.0.0.1:1/mcp' } }
  await t.rejects(
    startReplica({
      config: {
        core: { workers: 1 },
        telemetry: { prometheus: { enabled: true, port: rig.port } },
        servers: [server],
      },
    }),
    /can't show metrics on 127\.0\.0\.1:\d+/,
  )
})

t.test('without telemetry there is no such path, and no thread for it', async (t) => {
  const rig = await FileRig.start({ core: { workers: 1 } })
  t.teardown(() => rig.stop())
  t.equal((await fetch(`${rig.url}/metrics`)).status, 404)
  const off = threadsOf(rig.replica.pid)
  const on = await FileRig.start({
    core: { workers: 1 },
    telemetry: { prometheus: { enabled: true } },
  })
  t.teardown(() => on.stop())
  t.ok(threadsOf(on.replica.pid) > off)
})

function threadsOf(pid: number): number {
  const { stdout } = spawnSync('ls', [`/proc/${pid}/task`], { encoding: 'utf8' })
  return stdout.split('\n').length
}
