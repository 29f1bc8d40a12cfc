/** Which keys sign upload and download URLs, and what replicas ask of each other: the first signs, all are accepted. */
import { join } from 'node:path'

import type { Config } from '../shared/config/config.ts'
import { loadOrCreateSecrets } from '../shared/signing.ts'

/** The configured keys, else the token, else those in a file below the root, which all replicas see. Rejects when that can't be read or made. */
export async function signingKeys({
  core: { auth },
  storage,
}: Pick<Config, 'core' | 'storage'>): Promise<readonly string[]> {
  if (auth.signingSecret !== null) return auth.signingSecret
  if (auth.enabled && auth.token !== null) return [auth.token]
  return sharedSecrets(storage.root)
}

/** The same without the token: clients know that one, and must not pass for replicas. */
export async function hopKeys({
  core: { auth },
  storage,
}: Pick<Config, 'core' | 'storage'>): Promise<readonly string[]> {
  return auth.signingSecret ?? sharedSecrets(storage.root)
}

function sharedSecrets(root: string): Promise<readonly string[]> {
  return loadOrCreateSecrets(join(root, 'state', 'signing-secret'))
}
