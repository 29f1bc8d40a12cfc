/** Where this replica listens for the others, and what it tells them. */
import { networkInterfaces } from 'node:os'

import type { Config } from '../shared/config/config.ts'

const WILDCARDS: ReadonlySet<string> = new Set(['0.0.0.0', '::', ''])

/** Whether anything is bound to a connection that somebody else may have to reach: another replica, or another worker of this one. */
export function needsHop({ core, servers, statePersistence }: Config, workers: number): boolean {
  const isShared = statePersistence.type === 'redis'
  const isBound = servers.some(({ upstream }) => upstream.transport !== 'streamable_http')
  // What a legacy client sends comes to the worker that has its stream by itself, unless it comes to another replica.
  return isShared ? isBound || core.legacySse.enabled : isBound && workers > 1
}

/** What to listen on; port 0 is a free one. A replica that is alone listens for its own workers only. */
export function hopListenAddress({
  core,
  statePersistence,
}: Pick<Config, 'core' | 'statePersistence'>): { readonly host: string; readonly port: number } {
  if (statePersistence.type !== 'redis') return { host: '127.0.0.1', port: 0 }
  const { host, port } = core.replicaHop
  return { host: host ?? core.host, port: port ?? 0 }
}

/** The origin that others reach the listener by: as configured, else the address that it listens on, else the first that this machine has in a network. */
export function advertisedUrl(
  { core, statePersistence }: Pick<Config, 'core' | 'statePersistence'>,
  host: string,
  port: number,
  interfaces: ReturnType<typeof networkInterfaces> = networkInterfaces(),
): string {
  const { advertisedUrl: configured } = core.replicaHop
  if (configured !== null && statePersistence.type === 'redis') return configured
  if (!WILDCARDS.has(host)) return originOf(host, port)
  const outward = Object.values(interfaces)
    .flatMap((addresses) => addresses ?? [])
    // Addresses of one link only need its name to be reached.
    .filter(({ internal, address }) => !internal && !address.startsWith('fe80:'))
  const first = outward.find(({ family }) => family === 'IPv4') ?? outward[0]
  return originOf(first?.address ?? '127.0.0.1', port)
}

function originOf(host: string, port: number): string {
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`
}

/** Whether what goes there can be read on the way: it is neither encrypted nor on this machine. */
export function isOpenToOthers(url: string): boolean {
  const { protocol, hostname } = new URL(url)
  return protocol === 'http:' && hostname !== '[::1]' && !hostname.startsWith('127.')
}
