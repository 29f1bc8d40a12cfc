/** Upload clients, well-behaved and not, and what the tests look at afterwards. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { connect, type Socket } from 'node:net'

import type { Test } from 'tap'

import { parseUploadId } from '../../src/shared/ids.ts'
import type { UploadRecord } from '../../src/shared/state/records.ts'
import { tree, type Rig } from './files-fixture.ts'

export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  /** The JSON body; empty when it is none. */
  readonly json: Readonly<Record<string, unknown>>
}

export async function send(rig: Rig, target: string, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(rig.origin + target, init)
  const text = await response.text()
  const isJson = response.headers.get('content-type') === 'application/json'
  const json: Answer['json'] = isJson ? JSON.parse(text) : {}
  return { status: response.status, headers: response.headers, text, json }
}

export function form(
  ...parts: readonly (readonly [name: string, value: string | File])[]
): FormData {
  const data = new FormData()
  for (const [name, value] of parts) data.append(name, value)
  return data
}

export const sha256 = (content: string | Uint8Array) =>
  createHash('sha256').update(content).digest('hex')

/** A multipart body by hand, for what no well-behaved client would send. */
export function raw(body: string | Buffer, boundary = 'B'): RequestInit {
  const headers = { 'content-type': `multipart/form-data; boundary=${boundary}` }
  return { method: 'POST', headers, body }
}

export const part = (headers: string, content = 'x') => `--B\r\n${headers}\r\n\r\n${content}\r\n`
export const filePart = (name: string, content = 'x') =>
  part(`Content-Disposition: form-data; name="file"; filename="${name}"`, content)

/** Nothing on disk, nothing reserved, and the URL can still be used. */
export async function assertUntouched(t: Test, rig: Rig, target: string): Promise<void> {
  t.same(await tree(rig.files.root), [], 'nothing is left on disk')
  t.equal((await rig.store.inventory()).reservedBytes, 0, 'nothing is left reserved')
  const retry = await send(rig, target, { method: 'PUT', body: 'retry' })
  t.equal(retry.status, 200, 'the URL is not used up')
}

export async function stored(rig: Rig, answer: Answer): Promise<readonly UploadRecord[]> {
  const handles = answer.json['upload_handles']
  if (!Array.isArray(handles)) return []
  const ids = handles.flatMap((handle) => parseUploadId(String(handle).slice(-22)) ?? [])
  const resolved = await rig.store.resolveUploads(rig.key, ids)
  return resolved.ok ? resolved.uploads : []
}

export async function contentOf(rig: Rig, record: UploadRecord): Promise<Buffer> {
  const ref = { ...rig.key, kind: 'uploads', id: record.uploadId } as const
  return readFile(rig.files.itemPath(ref, record.filename))
}

/** A request by hand, for bodies that stop, stall or never end. */
export async function dial(rig: Rig, target: string, headers: string): Promise<Socket> {
  const socket = connect(rig.port, '127.0.0.1')
  await once(socket, 'connect')
  socket.on('error', () => undefined)
  socket.write(`POST ${target} HTTP/1.1\r\nHost: x\r\n${headers}\r\n\r\n`)
  return socket
}

export const CHUNKED = 'Content-Type: multipart/form-data; boundary=B\r\nTransfer-Encoding: chunked'
export const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`

/** Pieces of 100 kB without an announced length. */
export function streamOf(pieces: number): ReadableStream {
  let left = pieces
  return new ReadableStream({
    pull(controller) {
      if (left-- > 0) controller.enqueue(Buffer.alloc(100_000, 1))
      else controller.close()
    },
  })
}

/** A client that holds no more than one piece: `fetch` would buffer the body itself. */
export async function pour(rig: Rig, pieces: number): Promise<string> {
  const piece = Buffer.alloc(65_536, 7)
  const headers = { 'content-length': pieces * piece.byteLength }
  const request = httpRequest(rig.origin + rig.uploadTarget(), { method: 'PUT', headers })
  const responded = once(request, 'response')
  for (let i = 0; i < pieces; i++) if (!request.write(piece)) await once(request, 'drain')
  request.end()
  const [response] = await responded
  let text = ''
  for await (const data of response) text += String(data)
  return text
}
