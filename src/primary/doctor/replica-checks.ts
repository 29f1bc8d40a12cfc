/** Looks at the replicas that are running now: whether they see this root, and whether the configuration suits as many as there are. */
import { stat } from 'node:fs/promises'

import type { Config } from '../../shared/config/config.ts'
import type { RedisClient } from '../../shared/state/redis/connection.ts'
import { ReplicaWatch } from '../../shared/state/redis/replica-watch.ts'
import { replicaFile } from './root-probe.ts'
import { ok, problem, type Finding } from './finding.ts'

/** A replica names its file after it began to beat. */
const SECOND_LOOK_MS = 1_000

/** Judges what can only be told while replicas run. */
export async function checkReplicas(
  { storage, statePersistence }: Config,
  client: RedisClient,
): Promise<Finding[]> {
  const { keyBase } = statePersistence.redis
  const ids = await ReplicaWatch.present(client, keyBase)
  if (ids.length === 0) {
    return [ok('replicas', 'none is running; run this again while they are, on each machine')]
  }
  let missing = await unseen(storage.root, ids)
  if (missing.length > 0) {
    await new Promise((resolve) => setTimeout(resolve, SECOND_LOOK_MS))
    const still = new Set(await ReplicaWatch.present(client, keyBase))
    missing = await unseen(
      storage.root,
      missing.filter((id) => still.has(id)),
    )
  }
  return [
    missing.length === 0
      ? ok('replicas', `${ids.length} running, and all of them use this storage root`)
      : problem(
          'replicas',
          `${missing.length} of ${ids.length} running replicas (${missing.join(', ')}) use another storage root than ${storage.root} here: mount the same volume there on every replica`,
        ),
    ...checkFallback(statePersistence, ids.length),
  ]
}

function* checkFallback(
  { unavailablePolicy }: Config['statePersistence'],
  replicas: number,
): Generator<Finding> {
  if (unavailablePolicy !== 'fallback_memory' || replicas < 2) return
  yield problem(
    'unavailable policy',
    `fallback_memory while ${replicas} replicas run: without Redis each would go on alone, with sessions that the others do not know; use fail_closed or exit`,
  )
}

async function unseen(root: string, ids: readonly string[]): Promise<string[]> {
  const seen = await Promise.all(
    ids.map((id) =>
      stat(replicaFile(root, id)).then(
        () => true,
        () => false,
      ),
    ),
  )
  return ids.filter((_id, index) => seen[index] !== true)
}
