/** Turns one request body into staged files, in a pool thread: all files of the body, or none. */
import { Busboy, type BusboyInstance } from '@fastify/busboy'
import type { Readable } from 'node:stream'

import { AdapterError } from '../../shared/errors.ts'
import { FileStore } from '../../shared/files/file-store.ts'
import type { FileStoreOptions } from '../../shared/files/layout.ts'
import { mimeTypeOf, OCTET_STREAM, sanitizeFilename } from '../../shared/files/names.ts'
import type { SessionKey } from '../../shared/state/records.ts'
import { FileSink, type Room, type StagedFile } from './file-sink.ts'
import type { PortBody } from './body-port.ts'

/** What is to be done with a body. Plain data: it crosses threads. */
export interface ReceiveOrder {
  readonly storage: FileStoreOptions
  readonly key: SessionKey
  readonly form:
    | { readonly kind: 'multipart'; readonly contentType: string }
    /** The whole body is one file. `filename` is a safe name. */
    | { readonly kind: 'raw'; readonly filename: string; readonly mimeType: string }
  readonly maxFileBytes: number
  /** Length of the whole body, null when the client did not say. */
  readonly bodyBytes: number | null
  /** Room that is reserved already. */
  readonly reservedBytes: number
}

/** One file, complete under its temporary name. */
export interface ReceivedFile extends Omit<StagedFile, 'firstBytes'> {
  readonly filename: string
  readonly mimeType: string
}

/** All files of a body, in their order, and the digests that came with them, in theirs. */
export interface Received {
  readonly files: readonly ReceivedFile[]
  /** As sent, blank ones dropped. */
  readonly digests: readonly string[]
}

/** Most files in one request. */
export const MAX_FILES = 256
const MAX_FIELDS = 512
/** A digest has 64 characters. */
const MAX_FIELD_BYTES = 256
const MAX_PART_HEADER_BYTES = 16 * 1024
/** Most bytes of a multipart body that belong to no file: delimiters, part headers, fields, preamble, epilogue. */
const MAX_OVERHEAD_BYTES = 4 * 1024 * 1024
/** Room is asked for in steps, so that a body of unknown length costs few round trips to the store. */
const ROOM_STEP_BYTES = 4 * 1024 * 1024
const STREAM_BUFFER_BYTES = 256 * 1024

/** Receives the whole body. On any failure everything that was written is removed before this rejects. */
export async function receiveBody(order: ReceiveOrder, body: PortBody): Promise<Received> {
  const intake = new Intake(order, body)
  try {
    return await (order.form.kind === 'raw'
      ? intake.receiveRaw(order.form)
      : intake.receiveMultipart(order.form.contentType))
  } catch (error) {
    await intake.discard()
    throw error
  }
}

class Intake {
  readonly #order: ReceiveOrder
  readonly #body: PortBody
  readonly #files: FileStore
  readonly #room: BodyRoom
  readonly #sinks: FileSink[] = []
  readonly #streams: Readable[] = []
  readonly #saves: Promise<ReceivedFile | undefined>[] = []
  readonly #digests: string[] = []
  #isDiscarded = false
  /** Pieces that are being written now. */
  #writing = 0
  #wake: (() => void) | undefined

  constructor(order: ReceiveOrder, body: PortBody) {
    this.#order = order
    this.#body = body
    this.#files = new FileStore(order.storage)
    this.#room = new BodyRoom(order, body)
  }

  async receiveRaw(form: { filename: string; mimeType: string }): Promise<Received> {
    const file = await this.#save(this.#body.chunks({ areDone: true }), form)
    return { files: [file], digests: [] }
  }

  async receiveMultipart(contentType: string): Promise<Received> {
    const form = parserFor(contentType)
    // One of the saves, the parser or the feed fails first; the others are ended by `discard`.
    await new Promise<void>((resolve, reject) => {
      this.#listen(form, reject)
      form.on('finish', resolve)
      this.#feed(form).catch(reject)
    })
    const files = (await Promise.all(this.#saves)).filter((file) => file !== undefined)
    if (files.length === 0) {
      throw malformed('the form has no file: send at least one part named "file"')
    }
    return { files, digests: this.#digests }
  }

  async discard(): Promise<void> {
    this.#isDiscarded = true
    this.#wake?.()
    for (const stream of this.#streams) stream.destroy()
    await Promise.allSettled(this.#saves)
    await Promise.all(this.#sinks.map((sink) => sink.discard()))
  }

  #listen(form: BusboyInstance, fail: (error: Error) => void): void {
    form.on('file', (field, stream, filename, _encoding, mimeType) => {
      // Without a listener an error of a part that nobody reads any more would end the thread.
      stream.on('error', fail)
      // The parser may be in the middle of a chunk with many parts when the first of them fails.
      if (this.#isDiscarded) {
        stream.destroy()
        return
      }
      this.#streams.push(stream)
      const save = this.#saveStream(field, stream, { filename, mimeType })
      save.catch(fail)
      this.#saves.push(save)
    })
    form.on('field', (field, value, _nameTruncated, valueTruncated) => {
      if (field !== 'sha256') return
      if (valueTruncated) fail(malformed('a sha256 field is longer than a digest'))
      else if (value.trim() !== '') this.#digests.push(value.trim())
    })
    const tooMany = () =>
      fail(malformed(`the form has more than ${MAX_FILES} files or too many fields`))
    form.on('filesLimit', tooMany)
    form.on('fieldsLimit', tooMany)
    form.on('partsLimit', tooMany)
    form.on('error', (error) => fail(asMalformed(error)))
  }

  async #feed(form: BusboyInstance): Promise<void> {
    for await (const chunk of this.#body.chunks({ areDone: true })) {
      const overhead = this.#body.receivedBytes - chunk.byteLength - this.#room.usedBytes
      if (overhead > MAX_OVERHEAD_BYTES) throw malformed('the form has too much that is no file')
      await new Promise<void>((resolve, reject) => {
        form.write(chunk, (error) => (error ? reject(error) : resolve()))
      })
      await this.#settled()
    }
    form.end()
  }

  /** Resolves when every byte that the parser gave out is written: until then its pieces point into the chunk. */
  async #settled(): Promise<void> {
    const isBusy = (): boolean =>
      this.#writing > 0 ||
      this.#streams.some((stream) => !stream.destroyed && stream.readableLength > 0)
    for (;;) {
      // First, because a piece may be on its way from a stream to its file.
      await new Promise((resolve) => setImmediate(resolve))
      if (this.#isDiscarded || !isBusy()) return
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  /** Undefined for what a browser sends when no file was chosen: a part with an empty name and no content. */
  async #saveStream(
    field: string | undefined,
    stream: Readable,
    declared: { filename: string | undefined; mimeType: string },
  ): Promise<ReceivedFile | undefined> {
    if (field !== 'file') {
      throw malformed(`files are expected in parts named "file", not "${field ?? ''}"`)
    }
    const file = await this.#save(stream, {
      filename: sanitizeFilename(declared.filename ?? '', 'upload'),
      mimeType: declared.mimeType,
    })
    if (declared.filename !== '' || file.sizeBytes > 0) return file
    const unused = this.#sinks.find((sink) => sink.uploadId === file.uploadId)
    await unused?.discard()
    return undefined
  }

  async #save(
    pieces: AsyncIterable<Buffer>,
    declared: { filename: string; mimeType: string },
  ): Promise<ReceivedFile> {
    const { key, maxFileBytes: maxBytes } = this.#order
    const sink = new FileSink({ files: this.#files, key, maxBytes, room: this.#room })
    this.#sinks.push(sink)
    await sink.open()
    for await (const piece of pieces) {
      this.#writing++
      try {
        await sink.write(piece)
      } finally {
        this.#writing--
        this.#wake?.()
      }
    }
    const { firstBytes, ...staged } = await sink.finish()
    return {
      ...staged,
      filename: declared.filename,
      mimeType: settleType(declared.filename, declared.mimeType, firstBytes),
    }
  }
}

/** Room for all files of one body. Requests are made one after another, though two parts may overlap for a moment. */
class BodyRoom implements Room {
  readonly #body: PortBody
  readonly #bodyBytes: number | null
  #reservedBytes: number
  #turn: Promise<void> = Promise.resolve()
  usedBytes = 0

  constructor(order: ReceiveOrder, body: PortBody) {
    this.#body = body
    this.#bodyBytes = order.bodyBytes
    this.#reservedBytes = order.reservedBytes
  }

  use(bytes: number): Promise<void> {
    const turn = this.#turn.then(() => this.#take(bytes))
    // A failure is the caller's; the next in the line finds out for itself.
    this.#turn = turn.catch(() => undefined)
    return turn
  }

  async #take(bytes: number): Promise<void> {
    const missing = this.usedBytes + bytes - this.#reservedBytes
    if (missing > 0) {
      const ahead =
        this.#bodyBytes === null ? ROOM_STEP_BYTES : this.#bodyBytes - this.usedBytes - bytes
      const upTo = missing + Math.max(0, Math.min(ROOM_STEP_BYTES, ahead))
      this.#reservedBytes += await this.#body.requestRoom(missing, upTo)
    }
    this.usedBytes += bytes
  }
}

function parserFor(contentType: string): BusboyInstance {
  try {
    return new Busboy({
      headers: { 'content-type': contentType },
      // Names are cut to their last component by our own rules.
      preservePath: true,
      fileHwm: STREAM_BUFFER_BYTES,
      isPartAFile: (field, _type, filename) => filename !== undefined || field === 'file',
      limits: {
        files: MAX_FILES,
        fields: MAX_FIELDS,
        fieldSize: MAX_FIELD_BYTES,
        headerSize: MAX_PART_HEADER_BYTES,
        headerPairs: 64,
      },
    })
  } catch (error) {
    throw asMalformed(error)
  }
}

/** A declared type that says little gives way to what name and content tell. */
function settleType(filename: string, declared: string, firstBytes: Uint8Array): string {
  const isMediaType = /^[\w!#$&^.+-]{1,64}\/[\w!#$&^.+-]{1,64}$/.test(declared)
  if (isMediaType && declared !== OCTET_STREAM && declared !== 'text/plain') return declared
  const found = mimeTypeOf(filename, firstBytes)
  return found === OCTET_STREAM && isMediaType ? declared : found
}

function malformed(message: string, cause?: unknown): AdapterError {
  return new AdapterError('ADAPTER_UPLOAD_MALFORMED', message, { cause })
}

function asMalformed(error: unknown): AdapterError {
  const reason = error instanceof Error ? error.message : String(error)
  return malformed(`the multipart form can not be read: ${reason}`, error)
}
