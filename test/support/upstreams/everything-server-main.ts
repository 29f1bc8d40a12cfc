// Runs the everything server as a process of its own: `node everything-server-main.js [port]`.
// Prints its URL on one line when it listens; ends on SIGTERM or SIGINT.

import { startEverythingServer } from './everything-server.ts'

const server = await startEverythingServer({ port: Number(process.argv[2] ?? 0) })
process.stdout.write(`${server.url}\n`)
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    void server.stop().then(() => process.exit(0))
  })
}
