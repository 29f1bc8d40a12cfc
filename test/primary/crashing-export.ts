/** An export thread that dies of whatever it is handed. */
import { parentPort } from 'node:worker_threads'
import type { MessagePort } from 'node:worker_threads'

parentPort?.on('message', (message: { kind: string; port?: MessagePort }) => {
  if (message.kind === 'stop') process.exit()
  message.port?.on('message', () => {
    throw new Error('a record that nobody can bear')
  })
})
