/** Shows the effective configuration to an operator. */

import { stringify } from 'yaml'

import type { LoadedConfig } from './load.ts'
import { maskSecrets } from './secrets.ts'

/** The effective configuration as YAML in the shape of the file, every secret replaced by `<redacted>`. */
export function printEffectiveConfig(loaded: LoadedConfig): string {
  return stringify(maskSecrets(loaded.effective), { aliasDuplicateObjects: false, lineWidth: 0 })
}
