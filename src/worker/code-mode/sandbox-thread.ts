/** Thread entry of sandboxes: runs one script after the other, each in an instance of its own, as the pool asks. */
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { parentPort } from 'node:worker_threads'

import type { FromSandbox, ToSandbox } from './sandbox-protocol.ts'
import { Sandbox } from './sandbox.ts'

const WASM_FILE = createRequire(import.meta.url).resolve('@jitl/quickjs-wasmfile-release-sync/wasm')

const port = parentPort
if (port === null) throw new Error('this file is the entry of a thread')
const compiled = readFile(WASM_FILE).then((bytes) => WebAssembly.compile(bytes))
let sandbox: Sandbox | undefined

function say(message: FromSandbox): void {
  port?.postMessage(message)
}

/** After each turn: how it stands. */
function report(): void {
  const outcome = sandbox?.outcome
  if (outcome === undefined) {
    say(['idle'])
    return
  }
  sandbox = undefined
  say(['done', outcome])
}

async function run([, code, limits]: Extract<ToSandbox, readonly ['run', ...unknown[]]>) {
  sandbox = await Sandbox.open(await compiled, limits, (call, tool, argsJson) =>
    say(['call', call, tool, argsJson]),
  )
  say(['begun'])
  sandbox.run(code)
  report()
}

port.on('message', (message: ToSandbox) => {
  switch (message[0]) {
    case 'run':
      // What fails here is ours, not the script's: the thread ends, and the pool says so.
      void run(message)
      return
    case 'answer':
      sandbox?.answer(message[1], message[2])
      if (sandbox !== undefined) report()
      return
    case 'stop':
      port.close()
  }
})
