/** Which keys sign upload and download URLs: the first signs, all are accepted. */
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
  return loadOrCreateSecrets(join(storage.root, 'state', 'signing-secret'))
}
