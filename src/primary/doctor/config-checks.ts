/** Guard rails that the configuration alone shows. */
import { tmpdir } from 'node:os'
import { resolve, sep } from 'node:path'

import type { Config } from '../../shared/config/config.ts'
import type { LoadedConfig } from '../../shared/config/load.ts'
import { checkAuth } from './auth-checks.ts'
import { ok, problem, warning, type Finding } from './finding.ts'
import { LOOPBACK } from './loopback.ts'

/** Judges a configuration; never `ok` about what needs a look at Redis or the root. `isRootSet`: the operator chose `storage.root`. */
export function checkConfig(config: Config, { isRootSet }: { isRootSet: boolean }): Finding[] {
  return [
    checkPublicAddress(config),
    ...checkAuth(config),
    ...checkUpstreams(config),
    ...(config.statePersistence.type === 'redis'
      ? [
          ...checkSharedRoot(config, isRootSet),
          checkUnavailablePolicy(config),
          checkLockMode(config),
          ...checkRefresh(config),
        ]
      : []),
  ]
}

function checkPublicAddress({ core, servers, statePersistence, uploads }: Config): Finding {
  const subject = 'public address'
  if (core.publicBaseUrl !== null) {
    return ok(subject, `upload and download URLs begin with ${core.publicBaseUrl}`)
  }
  const takesFiles =
    uploads.enabled &&
    servers.some(({ adapters }) => adapters.some(({ type }) => type === 'upload_consumer'))
  if (!takesFiles && !core.allowArtifactsDownload) {
    return ok(subject, 'core.public_base_url is not set, and no URLs are given out')
  }
  const scheme = core.tls.certFile === null ? 'http' : 'https'
  const advice = 'set core.public_base_url to the address that clients reach the adapter by'
  if (statePersistence.type === 'redis') {
    return problem(
      subject,
      `core.public_base_url is not set: upload and download URLs begin with whatever Host a request had, which may be one replica's own; ${advice}`,
    )
  }
  return LOOPBACK.test(core.host)
    ? ok(subject, `upload and download URLs begin with ${scheme}:// and the Host of the request`)
    : warning(
        subject,
        `core.public_base_url is not set: upload and download URLs begin with ${scheme}:// and whatever Host a request had; ${advice}`,
      )
}

function* checkUpstreams({ servers }: Config): Generator<Finding> {
  for (const { id, upstream } of servers) {
    if (!upstream.insecureTls || !/^https:/i.test(upstream.url ?? '')) continue
    yield warning(
      'upstream tls',
      `servers[${id}].upstream.insecure_tls is true: whoever is on the way can pose as this upstream, read what clients send and answer in its place; set upstream.tls.ca_file instead`,
    )
  }
}

function* checkSharedRoot({ storage }: Config, isRootSet: boolean): Generator<Finding> {
  const subject = 'shared root'
  const root = resolve(storage.root)
  if (!isRootSet) {
    yield warning(
      subject,
      `storage.root is not set, so files are under ${root}: mount one volume there on every replica, and say so by setting storage.root`,
    )
  }
  if (`${root}${sep}`.startsWith(`${resolve(tmpdir())}${sep}`)) {
    yield warning(
      subject,
      `storage.root ${root} is in the directory for temporary files, which other machines don't share: use a volume that every replica mounts`,
    )
  }
}

function checkUnavailablePolicy({ statePersistence }: Config): Finding {
  const subject = 'unavailable policy'
  return statePersistence.unavailablePolicy === 'fallback_memory'
    ? warning(
        subject,
        'fallback_memory makes each replica go on alone, with sessions that the others do not know and that are lost when Redis is back; with more than one replica use fail_closed or exit',
      )
    : ok(subject, `state_persistence.unavailable_policy is ${statePersistence.unavailablePolicy}`)
}

function checkLockMode({ storage: { lockMode } }: Config): Finding {
  const subject = 'lock mode'
  return lockMode === 'process' || lockMode === 'none'
    ? warning(
        subject,
        `storage.lock_mode ${lockMode} lets every replica maintain the same store and files at once; use auto, redis or file`,
      )
    : ok(subject, `one replica at a time maintains, by storage.lock_mode ${lockMode}`)
}

function* checkRefresh({ statePersistence }: Config): Generator<Finding> {
  if (!statePersistence.refreshOnStartup) return
  yield warning(
    'refresh on startup',
    'state_persistence.refresh_on_startup ends all sessions whenever a replica starts while no other runs, as after a power cut; use it once, then turn it off',
  )
}

/** Whether the operator chose the root. */
export function setsRoot({ written }: Pick<LoadedConfig, 'written'>): boolean {
  const storage = fieldOf(written, 'storage')
  return fieldOf(storage, 'root') !== undefined
}

function fieldOf(node: unknown, name: string): unknown {
  return typeof node === 'object' && node !== null ? Reflect.get(node, name) : undefined
}
