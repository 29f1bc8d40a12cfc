/** What threads for bulk run for bodies and digests. The pool loads it first in each of them. */
import { fstat } from 'node:fs'
import { open } from 'node:fs/promises'
import { promisify } from 'node:util'
import type { MessagePort } from 'node:worker_threads'

import { READ_FLAGS } from '../../shared/files/layout.ts'
import { PortBody } from './body-port.ts'
import { yieldToCalls } from './niceness.ts'
import { pump, type FileDigest } from './pump.ts'
import { receiveBody, type Received, type ReceiveOrder } from './receive-body.ts'
import { settle, type TaskOutcome } from './task-outcome.ts'

export interface ReceiveTask {
  readonly order: ReceiveOrder
  readonly port: MessagePort
}

yieldToCalls()

const fstatAsync = promisify(fstat)

/** Receives one request body. */
export function receive(task: ReceiveTask): Promise<TaskOutcome<Received>> {
  const body = new PortBody(task.port)
  return settle(receiveBody(task.order, body).finally(() => body.close()))
}

/** Hashes a regular file. */
export function digest(source: string | number): Promise<TaskOutcome<FileDigest>> {
  return settle(
    withSource(source, async (fd) => {
      if (!(await fstatAsync(fd)).isFile()) throw new Error(`${source} is not a regular file`)
      return pump(fd, null, () => Promise.resolve())
    }),
  )
}

async function withSource<T>(
  source: string | number,
  work: (fd: number) => Promise<T>,
): Promise<T> {
  if (typeof source === 'number') return work(source)
  const handle = await open(source, READ_FLAGS)
  try {
    return await work(handle.fd)
  } finally {
    await handle.close()
  }
}
