/** Plays one case on a connection of its own and says what was wrong with what came back. */
import { setTimeout as delay } from 'node:timers/promises'

import { RawConnection } from '../support/raw-http.ts'
import { checkAnswers, type CheckedAnswer, type CheckedAnswers } from './answer-check.ts'
import type { FuzzCase } from './fuzz-case.ts'
import type { FuzzTarget } from './fuzz-target.ts'

/** Longest wait for an answer that is due; tool calls end after two seconds. */
const ANSWER_LIMIT_MS = 20_000
/** Longest time for which a server may leave a connection open that its client has closed. */
const CLOSE_LIMIT_MS = 10_000
/** When nothing came for so long, nothing more comes of a request that may not be one. */
const QUIET_MS = 100
const PROBE = 'GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n'

/** What came of a case. */
export interface CaseOutcome {
  /** Undefined when all is well. */
  readonly problem: string | undefined
  /** Statuses of the answers. */
  readonly statuses: readonly number[]
  /** What came back, latin-1. */
  readonly text: string
}

/** See the file comment. */
export async function runCase(target: FuzzTarget, fuzzCase: FuzzCase): Promise<CaseOutcome> {
  const sent = Buffer.concat(fuzzCase.pieces).toString('latin1')
  const connection = new RawConnection(target.port)
  try {
    const problem = await play(connection, fuzzCase, sent)
    const { answers, problem: malformed } = read(connection, sent)
    return {
      problem:
        target.answerProblem(connection.text, sent) ??
        malformed ??
        problem ??
        serverError(answers, sent),
      statuses: answers.map((answer) => answer.status),
      text: connection.text,
    }
  } finally {
    connection.destroy()
  }
}

async function play(
  connection: RawConnection,
  { pieces, isWhole, ending }: FuzzCase,
  sent: string,
): Promise<string | undefined> {
  for (const piece of pieces) {
    if (connection.isClosed) break
    connection.send(piece)
    if (pieces.length > 1) await delay(2)
  }
  if (ending === 'destroy') {
    await delay(3)
    return undefined
  }
  return isWhole ? expectAnswer(connection, sent) : expectEnd(connection)
}

/** The request is whole: an answer is due, and after it the connection is good for another request, or closed. */
async function expectAnswer(connection: RawConnection, sent: string): Promise<string | undefined> {
  const isOver = (): boolean => {
    const { answers, problem } = read(connection, sent)
    const last = answers.at(-1)
    if (connection.isClosed || problem !== undefined) return true
    return last !== undefined && last.status >= 200 && (last.isComplete || isStream(last))
  }
  if (!(await until(isOver, ANSWER_LIMIT_MS))) return 'no answer to a whole request'
  const before = read(connection, sent)
  const last = before.answers.at(-1)
  if (last === undefined || connection.isClosed || before.problem !== undefined)
    return isCut(last, sent) ? 'an answer was cut off' : undefined
  if (!last.isComplete) return undefined
  connection.send(PROBE)
  const hasProbeAnswer = (): boolean =>
    connection.isClosed ||
    (read(connection, sent).answers[before.answers.length]?.isComplete ?? false)
  if (!(await until(hasProbeAnswer, ANSWER_LIMIT_MS))) return 'no answer to the request after it'
  const probed = read(connection, sent).answers[before.answers.length]
  if (probed === undefined) return undefined
  return probed.status === 200 && probed.body === '{"status":"ok"}'
    ? undefined
    : `the request after it was answered ${probed.status} ${probed.body.slice(0, 200)}`
}

/** Nobody can say what is due: when nothing comes any more the client closes, and then so must the server. */
async function expectEnd(connection: RawConnection): Promise<string | undefined> {
  let seenBytes = -1
  for (let i = 0; i < 20 && !connection.isClosed && seenBytes !== connection.receivedBytes; i++) {
    seenBytes = connection.receivedBytes
    await delay(QUIET_MS)
  }
  connection.socket.end()
  return (await until(() => connection.isClosed, CLOSE_LIMIT_MS))
    ? undefined
    : 'the connection stays open though the client closed it'
}

function read(connection: RawConnection, sent: string): CheckedAnswers {
  const mayBeHead = sent.includes('HEAD')
  return checkAnswers(connection.text, { mayBeHead, isClosed: connection.isClosed })
}

function isStream(answer: CheckedAnswer): boolean {
  return answer.headers.get('content-type')?.startsWith('text/event-stream') === true
}

/** A hostile upstream may make us cut an answer; nothing else may. */
function isCut(last: CheckedAnswer | undefined, sent: string): boolean {
  return last !== undefined && !last.isComplete && !sent.includes('hostile')
}

/** Errors of the server, where the upstream has no part in them. */
function serverError(answers: readonly CheckedAnswer[], sent: string): string | undefined {
  if (sent.includes('hostile')) return undefined
  const bad = answers.find(({ status }) => status >= 500 && status !== 505 && status !== 507)
  return bad === undefined ? undefined : `answered ${bad.status} ${bad.body.slice(0, 300)}`
}

async function until(condition: () => boolean, limitMs: number): Promise<boolean> {
  const deadlineMs = Date.now() + limitMs
  for (let pauseMs = 1; !condition(); pauseMs = Math.min(50, pauseMs * 2)) {
    if (Date.now() > deadlineMs) return false
    await delay(pauseMs)
  }
  return true
}
