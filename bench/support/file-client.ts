/** Moves large files with curl, in processes of their own. */
import { execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { open, statfs } from 'node:fs/promises'
import { promisify } from 'node:util'

import { track } from './child.ts'

const run = promisify(execFile)

/** Makes a file of pseudo-random bytes; answers its SHA-256 in hex. */
export async function makeFile(path: string, bytes: number): Promise<string> {
  const hash = createHash('sha256')
  const file = await open(path, 'w')
  try {
    const piece = Buffer.allocUnsafe(1_048_576)
    let seed = 0x9e3779b9
    for (let i = 0; i < piece.byteLength; i += 4) {
      seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
      piece.writeUInt32LE(seed, i)
    }
    for (let written = 0; written < bytes; written += piece.byteLength) {
      // No two pieces alike.
      piece.writeDoubleLE(written, 0)
      const part = piece.subarray(0, Math.min(piece.byteLength, bytes - written))
      hash.update(part)
      // oxlint-disable-next-line no-await-in-loop -- one piece in memory
      await file.write(part)
    }
  } finally {
    await file.close()
  }
  return hash.digest('hex')
}

/** Whether `bytes` more fit on the file system of `directory`, with a tenth to spare. */
export async function hasRoom(directory: string, bytes: number): Promise<boolean> {
  const { bavail, bsize } = await statfs(directory)
  return bavail * bsize > bytes * 1.1
}

/** How a file is sent. */
export interface Sending {
  /** Without a Content-Length, in chunks. */
  readonly isChunked: boolean
  /** Above 0, the client yields the processor to the others: for when the time it takes is not what is measured. */
  readonly niceness: number
}

/** Sends a file as the body of a PUT; answers the seconds it took, until the answer was complete. Rejects on any status but 200. */
export async function sendFile(path: string, url: string, sending: Sending): Promise<number> {
  const headers = ['-H', 'expect:', '-H', 'content-type: application/octet-stream']
  if (sending.isChunked) headers.push('-H', 'transfer-encoding: chunked')
  return timed(() => curl(['-T', path, ...headers, url], sending.niceness))
}

/**
 * Whether a body of the file's size must be sent in chunks: one of the builds of the listener's library resets connections whose Content-Length has
 * more than nine digits. Tells by trying; `url` is used up when the answer is false.
 */
export async function mustChunk(path: string, url: string): Promise<boolean> {
  return sendFile(path, url, { isChunked: false, niceness: 0 }).then(
    () => false,
    () => true,
  )
}

/** What a report says of that. */
export const CHUNKED_NOTE =
  'a body of this size with Content-Length is refused (connection reset), so it was sent in chunks'

/** Fetches a URL and throws the bytes away; answers the seconds it took. Rejects when it is not `bytes` long. */
export async function fetchFile(url: string, bytes: number): Promise<number> {
  return timed(async () => {
    const text = await curl(['-o', '/dev/null', url], 0)
    const received = Number(/size (\d+)$/.exec(text)?.[1])
    if (received !== bytes) throw new Error(`${received} bytes came in place of ${bytes}`)
  })
}

/** Seconds that a command takes. */
export async function timeCommand(command: string, args: readonly string[]): Promise<number> {
  return timed(() => run(command, [...args]))
}

/** Whether curl is there. */
export async function hasCurl(): Promise<boolean> {
  return run('curl', ['--version']).then(
    () => true,
    () => false,
  )
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now()
  await work()
  return (performance.now() - startedAt) / 1_000
}

async function curl(args: readonly string[], niceness: number): Promise<string> {
  const nice = ['-n', String(niceness), 'curl', '-sS', '--noproxy', '*', '--max-time', '180']
  const format = ['-w', 'status %{http_code} size %{size_download}']
  const child = spawn('nice', [...nice, ...format, ...args])
  track(child)
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', () => resolve())
  })
  if (!text.includes('status 200')) throw new Error(`curl: ${text.slice(-500)}`)
  return text
}
