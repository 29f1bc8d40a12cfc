/** A connection to Redis that is made once and said goodbye to: for looking at it, not for working with it. */
import { setTimeout as sleep } from 'node:timers/promises'

import { openCommands, type RedisClient } from '../../shared/state/redis/connection.ts'
import type { RedisConnectionOptions } from '../../shared/state/redis/connection.ts'
import { reasonOf } from './finding.ts'

/** Refusals that another attempt does not change. */
const FINAL =
  /WRONGPASS|NOAUTH|NOPERM|AUTH failed|invalid.*password|ENOTFOUND|ECONNREFUSED|certificate|self.signed|EPROTO|SSL|NOREPLICAS/i
const LOOK_MS = 20

/** The outcome of connecting. */
export type RedisLink =
  | { readonly ok: true; readonly client: RedisClient }
  | { readonly ok: false; readonly reason: string }

/** Connects within `limitMs`. The caller disconnects the client. */
export async function connectOnce(
  options: RedisConnectionOptions,
  limitMs: number,
): Promise<RedisLink> {
  let failure: string | undefined
  const client = openCommands(options, (error) => {
    failure = describe(error)
  })
  const deadlineAtMs = performance.now() + limitMs
  for (;;) {
    const refusal = await ping(client)
    if (refusal === undefined) return { ok: true, client }
    const reason = failure ?? refusal
    if (FINAL.test(reason) || performance.now() > deadlineAtMs) {
      client.disconnect()
      return { ok: false, reason }
    }
    // oxlint-disable-next-line no-await-in-loop -- a pause between attempts
    await sleep(LOOK_MS)
  }
}

/** Where Redis is, for people; without secrets. */
export function placeOf({ target }: RedisConnectionOptions): string {
  const names = ('nodes' in target ? target.nodes : [target.node]).map(
    ({ host, port }) => `${host}:${port}`,
  )
  switch (target.kind) {
    case 'single':
      return names.join(', ')
    case 'sentinel':
      return `the master ${target.masterName} of the Sentinels ${names.join(', ')}`
    case 'cluster':
      return `the Cluster at ${names.join(', ')}`
  }
}

async function ping(client: RedisClient): Promise<string | undefined> {
  try {
    await client.ping()
    return undefined
  } catch (error) {
    return describe(error)
  }
}

/** A Cluster only says that it can't be reached, and keeps what its members said. */
function describe(error: unknown): string {
  const cause = error instanceof Error && 'lastNodeError' in error ? error.lastNodeError : undefined
  return cause instanceof Error ? `${reasonOf(error)} ${reasonOf(cause)}` : reasonOf(error)
}
