/** Reads what a server sent on one connection as strictly as HTTP/1.1 has it, and says what is wrong with it. */

/** What was understood. */
export interface CheckedAnswers {
  /** Complete answers, and the head of an unfinished one. */
  readonly answers: readonly CheckedAnswer[]
  /** Why the bytes are no sequence of answers; undefined when they are. */
  readonly problem: string | undefined
}

/** One answer. */
export interface CheckedAnswer {
  readonly status: number
  readonly headers: ReadonlyMap<string, string>
  readonly body: string
  readonly isComplete: boolean
}

const STATUS_LINE = /^HTTP\/1\.1 [1-5]\d\d [\t\x20-\x7e\x80-\xff]*$/
const HEADER_LINE = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t ]*[\t\x20-\x7e\x80-\xff]*$/
const ONCE = new Set([
  'content-length',
  'transfer-encoding',
  'content-type',
  'mcp-session-id',
  'date',
])

/**
 * `text` is latin-1. `mayBeHead`: a request may have been HEAD, whose answer announces a body that does not come. `isClosed`: nothing more will
 * come, so that an answer without framing is complete.
 */
export function checkAnswers(
  text: string,
  options: { readonly mayBeHead: boolean; readonly isClosed: boolean },
): CheckedAnswers {
  const answers: CheckedAnswer[] = []
  let rest = text
  while (rest !== '') {
    const end = rest.indexOf('\r\n\r\n')
    if (end === -1) {
      // Cut off, when nothing more comes: the closing of a connection may overtake what was sent on it.
      const isBeginning =
        /^HTTP\/1\.1 [1-5]\d\d /.test(rest) || 'HTTP/1.1 '.startsWith(rest.slice(0, 9))
      return { answers, problem: isBeginning ? undefined : shown('no head', rest) }
    }
    const [statusLine = '', ...lines] = rest.slice(0, end).split('\r\n')
    if (!STATUS_LINE.test(statusLine)) return { answers, problem: shown('no status line', rest) }
    const bad = lines.find((line) => !HEADER_LINE.test(line))
    if (bad !== undefined) return { answers, problem: shown('no header line', bad) }
    const headers = new Map<string, string>()
    for (const line of lines) {
      const name = line.slice(0, line.indexOf(':')).toLowerCase()
      if (headers.has(name) && ONCE.has(name))
        return { answers, problem: shown('a header twice', line) }
      headers.set(name, line.slice(name.length + 1).trim())
    }
    const status = Number(statusLine.slice(9, 12))
    const after = rest.slice(end + 4)
    const body = takeBody(after, status, headers, options)
    if (typeof body === 'string') return { answers, problem: body }
    answers.push({ status, headers, body: body.text, isComplete: body.isComplete })
    if (!body.isComplete) break
    rest = after.slice(body.length)
  }
  return { answers, problem: undefined }
}

interface Body {
  readonly text: string
  readonly length: number
  readonly isComplete: boolean
}

/** The body, or what is wrong with it. */
function takeBody(
  text: string,
  status: number,
  headers: ReadonlyMap<string, string>,
  options: { readonly mayBeHead: boolean; readonly isClosed: boolean },
): Body | string {
  const none = { text: '', length: 0, isComplete: true }
  const length = headers.get('content-length')
  const coding = headers.get('transfer-encoding')
  if (length !== undefined && coding !== undefined) return 'both a length and a coding'
  if (status < 200 || status === 204 || status === 304)
    return length === undefined && coding === undefined ? none : `a body announced with ${status}`
  if (options.mayBeHead && (text === '' || text.startsWith('HTTP/1.1 '))) return none
  if (coding !== undefined) return coding === 'chunked' ? takeChunks(text) : `coding ${coding}`
  if (length !== undefined) {
    if (!/^\d+$/.test(length)) return `length ${length}`
    const size = Number(length)
    return { text: text.slice(0, size), length: size, isComplete: text.length >= size }
  }
  if (headers.get('connection') !== 'close') return 'neither a length nor a coding nor a close'
  return { text, length: text.length, isComplete: options.isClosed }
}

function takeChunks(text: string): Body | string {
  let body = ''
  let at = 0
  for (;;) {
    const line = text.indexOf('\r\n', at)
    const unfinished = { text: body, length: at, isComplete: false }
    if (line === -1)
      return /^[0-9a-f]*\r?$/i.test(text.slice(at))
        ? unfinished
        : shown('no chunk size', text.slice(at))
    const size = text.slice(at, line)
    if (!/^[0-9a-f]{1,8}$/i.test(size)) return shown('no chunk size', size)
    const end = line + 2 + Number.parseInt(size, 16)
    if (text.length < end + 2) return unfinished
    if (text.slice(end, end + 2) !== '\r\n') return shown('no end of a chunk', text.slice(end))
    body += text.slice(line + 2, end)
    at = end + 2
    if (size === '0') return { text: body, length: at, isComplete: true }
  }
}

function shown(what: string, text: string): string {
  return `${what}: ${JSON.stringify(text.slice(0, 200))}`
}
