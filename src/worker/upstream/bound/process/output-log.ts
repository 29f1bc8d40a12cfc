/** What a server's process writes for people to read, into the log: line by line, bounded in length and rate. The log takes secrets out of it. */
import { stripVTControlCharacters } from 'node:util'

import type { Log } from '../../../../shared/log.ts'
import { LineSplitter } from './line-splitter.ts'

/** Longest line that is told, in bytes. */
const MAX_LINE_BYTES = 4_096
/** Lines at once, and per second in the long run. */
const BURST_LINES = 200
const LINES_PER_SECOND = 20

/** Which of a process's outputs a line came on. */
type Stream = 'stderr' | 'stdout'

/** See the file comment. One per process. */
export class OutputLog {
  readonly #log: Log
  readonly #about: { readonly server: string; readonly pid: number }
  readonly #splitter = new LineSplitter(MAX_LINE_BYTES, (line, isCut) =>
    this.#line('stderr', line, isCut),
  )
  #allowance = BURST_LINES
  #countedAtMs = performance.now()
  #leftOut = 0
  #isInKey = false

  constructor(log: Log, about: { readonly server: string; readonly pid: number }) {
    this.#log = log
    this.#about = about
  }

  /** Takes a piece of standard error. */
  push(chunk: Uint8Array): void {
    this.#splitter.push(chunk)
  }

  /** Takes a line of standard output that is no message. */
  noise(line: Uint8Array): void {
    this.#line('stdout', line.subarray(0, MAX_LINE_BYTES), line.length > MAX_LINE_BYTES)
  }

  end(): void {
    this.#splitter.end()
    this.#tellLeftOut()
  }

  #line(stream: Stream, bytes: Uint8Array, isCut: boolean): void {
    if (!this.#mayTell()) {
      this.#leftOut++
      return
    }
    this.#tellLeftOut()
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
    const line = this.#withoutKeys(printable(isCut ? toLastBlank(text) : text))
    if (line !== '') this.#log.info({ ...this.#about, stream, line }, 'server wrote')
  }

  #mayTell(): boolean {
    const nowMs = performance.now()
    const earned = ((nowMs - this.#countedAtMs) / 1_000) * LINES_PER_SECOND
    this.#allowance = Math.min(BURST_LINES, this.#allowance + earned)
    this.#countedAtMs = nowMs
    if (this.#allowance < 1) return false
    this.#allowance--
    return true
  }

  #tellLeftOut(): void {
    if (this.#leftOut === 0) return
    this.#log.warn(
      { ...this.#about, lines: this.#leftOut },
      'server wrote more than is logged; these lines are left out',
    )
    this.#leftOut = 0
  }

  /** The redactor sees one line at a time, and a private key has several. */
  #withoutKeys(line: string): string {
    const begins = /-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(line)
    const ends = /-----END [A-Z ]*PRIVATE KEY-----/.test(line)
    const isInside = this.#isInKey
    this.#isInKey = (isInside || begins) && !ends
    return isInside ? '' : line
  }
}

/** Half a secret at the end would not be known for one. */
function toLastBlank(text: string): string {
  const at = text.lastIndexOf(' ')
  return at === -1 ? `<a line of more than ${MAX_LINE_BYTES} bytes>` : `${text.slice(0, at)} …`
}

function printable(text: string): string {
  return stripVTControlCharacters(text)
    .replaceAll(/[\p{Cc}\p{Bidi_Control}]+/gu, ' ')
    .trim()
}
