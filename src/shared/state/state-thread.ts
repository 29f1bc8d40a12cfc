/**
 * Entry of the thread that owns the state store, so that nobody else waits for the disk. It is started with `LocalStoreOptions` as its data, posts
 * `StateThreadEvent`s, and obeys `StateThreadCommand`s.
 */
import { parentPort, workerData } from 'node:worker_threads'
import type { MessagePort } from 'node:worker_threads'

import { StoreHost } from './host.ts'
import { openLocalStore } from './open.ts'
import type { LocalStoreOptions } from './open.ts'

/** `connect` hands over a port (also in the transfer list) for one more `RemoteStore`; `stop` closes the store and ends the thread. */
export type StateThreadCommand =
  | { readonly kind: 'connect'; readonly port: MessagePort }
  | { readonly kind: 'stop' }

/** `failed`: the store could not be opened, and the thread ends; or it could not be closed cleanly. */
export type StateThreadEvent =
  | { readonly kind: 'ready' }
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'warning'; readonly message: string }

function run(parent: MessagePort): void {
  const tell = (event: StateThreadEvent): void => parent.postMessage(event)
  const fail = (error: unknown): void =>
    tell({ kind: 'failed', message: error instanceof Error ? error.message : String(error) })
  // The first event says whether the store opened; what was noticed on the way comes after it.
  const early: string[] = []
  let isOpen = false
  const onWarning = (message: string): void => {
    if (isOpen) tell({ kind: 'warning', message })
    else early.push(message)
  }
  let host: StoreHost
  try {
    const options: LocalStoreOptions = workerData // whoever starts this file passes them
    host = new StoreHost(openLocalStore(options, { onWarning }))
    isOpen = true
  } catch (error) {
    fail(error)
    return
  }
  parent.on('message', (command: StateThreadCommand) => {
    switch (command.kind) {
      case 'connect':
        host.connect(command.port)
        return
      case 'stop':
        host
          .close()
          .catch(fail)
          .finally(() => parent.close())
    }
  })
  tell({ kind: 'ready' })
  for (const message of early) onWarning(message)
}

if (parentPort !== null) run(parentPort)
