/** Has a Node.js process collect all garbage, in every thread, so that memory shows what is kept and not what was not yet collected. */
import { WebSocket } from 'undici'

/** Options that a process must be started with; its inspector then listens on a free port of 127.0.0.1. */
export const INSPECTABLE = ['--inspect=127.0.0.1:0'] as const

/** Longest time that the collections may take, in milliseconds. */
const LIMIT_MS = 20_000

interface Message {
  readonly id?: number
  readonly method?: string
  readonly params?: { readonly sessionId?: string; readonly message?: string }
}

/** Collects in the main thread and in all worker threads; `inspectorUrl` is what the process printed when it started. */
export async function collectGarbage(inspectorUrl: string): Promise<void> {
  const socket = new WebSocket(inspectorUrl)
  let timer: NodeJS.Timeout | undefined
  try {
    await Promise.race([
      collect(socket),
      new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error('collecting garbage took too long')), LIMIT_MS)
      }),
    ])
  } finally {
    clearTimeout(timer)
    socket.close()
  }
}

async function collect(socket: WebSocket): Promise<void> {
  const threads: string[] = []
  const answers = new Map<string, () => void>()
  socket.addEventListener('message', ({ data }) => {
    const message = parse(data)
    const { sessionId, message: inner } = message.params ?? {}
    if (message.method === 'NodeWorker.attachedToWorker') threads.push(sessionId ?? '')
    else if (message.method === 'NodeWorker.receivedMessageFromWorker') {
      answers.get(`${sessionId ?? ''}:${parse(inner).id ?? ''}`)?.()
    } else answers.get(`:${message.id ?? ''}`)?.()
  })
  await new Promise((resolve, reject) => {
    socket.addEventListener('open', resolve)
    socket.addEventListener('error', () => reject(new Error('the inspector does not answer')))
  })
  const ask = (id: number, method: string, params: object): Promise<void> => {
    socket.send(JSON.stringify({ id, method, params }))
    return new Promise((resolve) => answers.set(`:${id}`, resolve))
  }
  await ask(1, 'NodeWorker.enable', { waitForDebuggerOnStart: false })
  // Twice: finalizers of the first round free more.
  for (const id of [2, 3]) {
    const inThreads = threads.map((sessionId) => {
      const message = JSON.stringify({ id, method: 'HeapProfiler.collectGarbage' })
      socket.send(
        JSON.stringify({
          id: id * 1_000,
          method: 'NodeWorker.sendMessageToWorker',
          params: { sessionId, message },
        }),
      )
      return new Promise<void>((resolve) => answers.set(`${sessionId}:${id}`, resolve))
    })
    // oxlint-disable-next-line no-await-in-loop -- the second round follows the first
    await Promise.all([ask(id, 'HeapProfiler.collectGarbage', {}), ...inThreads])
  }
}

function parse(text: unknown): Message {
  // What the inspector sends; each member is looked at before it is used.
  return JSON.parse(typeof text === 'string' ? text : '{}') as Message
}
