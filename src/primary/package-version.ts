/** The version of the adapter that runs. */
import { readFileSync } from 'node:fs'

/** From its manifest; `unknown` where there is none. */
export function packageVersion(): string {
  // dist/primary/ and build/src/primary/ are at different depths.
  for (const up of ['../../package.json', '../../../package.json']) {
    try {
      const manifest: unknown = JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8'))
      if (typeof manifest === 'object' && manifest !== null && 'version' in manifest)
        return String(manifest.version)
    } catch {
      // the next depth
    }
  }
  return 'unknown'
}
