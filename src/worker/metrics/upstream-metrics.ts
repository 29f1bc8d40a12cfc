/** Counts what concerns upstreams in a worker besides the calls of clients: pings, listings that were kept, and requests handed to the holder of a connection. */
import type { ServerConfig } from '../../shared/config/config.ts'
import type { Recorder } from '../../shared/telemetry/recorder.ts'
import type { Listings } from '../exchange/listings.ts'
import type { HopEvents } from '../hop/hop-events.ts'
import type { UpstreamEvents } from '../upstream/breaker.ts'

/** What to tell of the pings of one server. */
export function pingEvents(recorder: Recorder, { id }: ServerConfig): UpstreamEvents {
  return {
    onPing: ({ latencyMs, failure, stateBefore }) => {
      const labels = {
        server_id: id,
        result: failure === undefined ? 'success' : failure === 'timeout' ? 'timeout' : 'error',
        state_before_probe: stateBefore,
      } as const
      recorder.add('adapter_upstream_ping_total', labels)
      recorder.observe('adapter_upstream_ping_latency_seconds', labels, latencyMs / 1_000)
    },
  }
}

/** Counts how requests for listings were answered, whenever counts are handed on. */
export function countListings(recorder: Recorder, all: readonly Listings[]): void {
  let hitsBefore = 0
  let missesBefore = 0
  recorder.beforeReport(() => {
    let hits = 0
    let misses = 0
    for (const { counts } of all) {
      hits += counts.hits + counts.joined
      misses += counts.misses
    }
    const labels = { cache: 'upstream_metadata' } as const
    if (hits > hitsBefore)
      recorder.add('adapter_cache_requests_total', { ...labels, result: 'hit' }, hits - hitsBefore)
    if (misses > missesBefore)
      recorder.add(
        'adapter_cache_requests_total',
        { ...labels, result: 'miss' },
        misses - missesBefore,
      )
    hitsBefore = hits
    missesBefore = misses
  })
}

/** What to tell of requests that go over the hop. */
export function hopEvents(recorder: Recorder): HopEvents {
  return {
    answered: (direction, seconds) =>
      recorder.observe('adapter_replica_hop_duration_seconds', { direction }, seconds),
    ended: (direction, result) =>
      recorder.add('adapter_replica_hop_requests_total', { direction, result }),
  }
}
