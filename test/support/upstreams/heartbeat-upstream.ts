// An upstream that treats its standalone stream as Playwright MCP 0.0.83 does: one a session (a second GET is a 409), pings on it, and an end of the
// session when a ping stays unanswered.

import { performance } from 'node:perf_hooks'
import type { ServerResponse } from 'node:http'

import { beginStream, event, idOf, startScriptedUpstream } from './scripted-upstream.ts'
import type { ScriptedUpstream } from './scripted-upstream.ts'

/** What a test knows of the stream of one upstream session. */
export interface Heartbeat {
  /** Times a GET was accepted, and refused because another one was open. */
  opened: number
  refused: number
  /** Answers to pings. */
  answered: number
  /** When the last stream ended, and how long it took until the next one was accepted, in milliseconds of `performance.now`. */
  closedAtMs: number
  readonly gapsMs: number[]
  /** Headers of the last GET. */
  headers: Readonly<Record<string, unknown>>
}

/** See the file comment. */
export interface HeartbeatUpstream extends ScriptedUpstream {
  /** Of an upstream session. */
  heartbeat(upstreamId: string): Heartbeat
  isOpen(upstreamId: string): boolean
  /** Sends a message on the stream. False when none is open: it is lost, as with the SDK's servers. */
  emit(upstreamId: string, message: unknown): boolean
  /** Ends the stream from this side. */
  hangUp(upstreamId: string): void
}

/** How it differs from Playwright. */
export interface HeartbeatOptions {
  /** Milliseconds from the opening of a stream, or the answer to a ping, to the next ping; 3,000. */
  readonly pingEveryMs?: number
  /** Milliseconds that an answer may take; 5,000. */
  readonly pingTimeoutMs?: number
  /** Whether a second GET takes the place of the first in place of being refused. */
  readonly newestWins?: boolean
  /** Whether it goes on when a ping is not answered. */
  readonly forgives?: boolean
}

/** Starts one on 127.0.0.1. */
export async function startHeartbeatUpstream(
  options: HeartbeatOptions = {},
): Promise<HeartbeatUpstream> {
  const { pingEveryMs = 3_000, pingTimeoutMs = 5_000 } = options
  const { newestWins = false, forgives = false } = options
  const upstream = await startScriptedUpstream()
  const streams = new Map<string, ServerResponse>()
  const heartbeats = new Map<string, Heartbeat>()
  const waiting = new Map<string, () => void>()
  const timers = new Set<NodeJS.Timeout>()
  let pings = 0

  const heartbeat = (id: string): Heartbeat => {
    const known = heartbeats.get(id)
    if (known !== undefined) return known
    const fresh = { opened: 0, refused: 0, answered: 0, closedAtMs: 0, gapsMs: [], headers: {} }
    heartbeats.set(id, fresh)
    return fresh
  }
  const after = (ms: number, run: () => void): NodeJS.Timeout => {
    const timer = setTimeout(() => {
      timers.delete(timer)
      run()
    }, ms)
    timers.add(timer)
    return timer
  }
  const emit = (id: string, message: unknown): boolean => {
    const stream = streams.get(id)
    stream?.write(event(message))
    return stream !== undefined
  }
  const beat = (id: string): void => {
    after(pingEveryMs, () => {
      if (!upstream.sessions.has(id)) return
      const pingId = `ping-${++pings}`
      const timeout = after(pingTimeoutMs, () => {
        waiting.delete(pingId)
        if (forgives) {
          beat(id)
          return
        }
        upstream.sessions.delete(id)
        streams.get(id)?.end()
      })
      waiting.set(pingId, () => {
        clearTimeout(timeout)
        timers.delete(timeout)
        heartbeat(id).answered++
        beat(id)
      })
      emit(id, { jsonrpc: '2.0', id: pingId, method: 'ping' })
    })
  }

  upstream.scripts.set('GET', (request, response) => {
    const id = String(request.headers['mcp-session-id'])
    const state = heartbeat(id)
    const former = streams.get(id)
    if (former !== undefined && !newestWins) {
      state.refused++
      response.writeHead(409, { 'content-type': 'application/json' })
      response.end('{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Conflict"}}')
      return
    }
    former?.end()
    streams.set(id, response)
    if (state.opened > 0) state.gapsMs.push(performance.now() - state.closedAtMs)
    state.opened++
    state.headers = request.headers
    beginStream(response)
    response.once('close', () => {
      if (streams.get(id) !== response) return
      streams.delete(id)
      state.closedAtMs = performance.now()
    })
    if (state.opened === 1) beat(id)
  })
  upstream.scripts.set('response', (request, response) => {
    const id = String(idOf(request))
    waiting.get(id)?.()
    waiting.delete(id)
    response.writeHead(202).end()
  })
  return {
    ...upstream,
    heartbeat,
    isOpen: (id) => streams.has(id),
    emit,
    hangUp: (id) => void streams.get(id)?.end(),
    stop: async () => {
      for (const timer of timers) clearTimeout(timer)
      await upstream.stop()
    },
  }
}
