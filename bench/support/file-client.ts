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

/**
 * Sends a file as the body of a PUT; answers the seconds it took, until the answer was complete. Rejects on any status but 200. `niceness` above 0
 * yields the processor to the others, where the time it takes is not what is measured.
 */
export async function sendFile(path: string, url: string, niceness = 0): Promise<number> {
  const type = 'content-type: application/octet-stream'
  return timed(() => curl(['-T', path, '-H', 'expect:', '-H', type, url], niceness))
}

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
  const child = spawn('nice', [
    ...['-n', String(niceness), 'curl', '-sS', '--noproxy', '*', '--max-time', '180'],
    ...['-w', 'status %{http_code} size %{size_download}'],
    ...args,
  ])
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
