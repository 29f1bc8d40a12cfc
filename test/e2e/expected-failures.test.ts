/** What the log says of failures that a log is read for: a line that names the cause, without a stack, which only tells of bugs. */
import t from 'tap'

import { eventually } from '../support/eventually.ts'
import { startReplica } from '../support/replica.ts'
import { initialize } from '../support/wire.ts'

t.setTimeout(120_000)

/** A replica with one server; answers the lines of its log once its breaker has opened. */
async function linesOf(upstream: Readonly<Record<string, unknown>>) {
  const replica = await startReplica({
    config: {
      core: { workers: 1, max_start_wait_seconds: 0 },
      servers: [{ id: 'bad', mount_path: '/bad', upstream }],
    },
  })
  try {
    await eventually('its breaker is open', async () => {
      const { status } = await initialize(`${replica.url}/bad`)
      return status === 503
    })
    await eventually('its log says so', () => replica.logs().includes('the upstream fails'))
    return replica.logs().split('\n')
  } finally {
    await replica.stop()
  }
}

t.test('a command with arguments in it is told as such', async (t) => {
  const lines = await linesOf({ transport: 'stdio', command: 'node server.js' })
  const line = lines.find((one) => one.includes('server can not be started')) ?? ''
  t.match(line, /spawn node server\.js ENOENT/)
  t.match(line, /its arguments belong into upstream\.args/)
  t.notMatch(line, /"stack"/)
})

t.test('the line of a breaker that opens says what the failure was', async (t) => {
  // The discard port: nothing listens there.
  const lines = await linesOf({ url: 'http://127.0.0.1:9/mcp' })
  const opened = lines.filter((one) => one.includes('the upstream fails'))
  t.equal(opened.length, 1)
  t.match(opened[0], /"reason":"[^"]*ECONNREFUSED/)
})
