/** The files below src/ and what each imports, for the tests that hold them to the tables of ARCHITECTURE.md. */
import { readdirSync, readFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { join, posix } from 'node:path'

/** One source file. Paths are relative to src/. */
export interface SourceFile {
  readonly path: string
  readonly text: string
  /** Files of ours that it imports, types included. */
  readonly imports: readonly string[]
  /** Packages that it imports, by their name without a path inside them; Node's own modules with their prefix. */
  readonly packages: readonly string[]
}

/** Static, side-effect, dynamic and CommonJS imports, also of a template that begins with a package's name. */
const IMPORT = /(?:\b(?:from|import) |\b(?:import|require)\()'([^'\s]+)'|`(uwebsockets-glibc227)\//g

/** Every source file, in the order of their paths. */
export function readSources(): readonly SourceFile[] {
  const root = join(process.cwd(), 'src')
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .toSorted()
    .map((path) => {
      const text = readFileSync(join(root, path), 'utf8')
      const specifiers = [...text.matchAll(IMPORT)].map(([, name = '', other]) => other ?? name)
      const own = specifiers.filter((specifier) => specifier.startsWith('.'))
      return {
        path,
        text,
        imports: own.map((specifier) => posix.join(posix.dirname(path), specifier)),
        packages: specifiers.filter((specifier) => !specifier.startsWith('.')).map(packageOf),
      }
    })
}

/** The folder that a file belongs to: at most two levels, which is how the tables name them. */
export function folderOf(path: string): string {
  return posix.dirname(path).split('/').slice(0, 2).join('/')
}

function packageOf(specifier: string): string {
  if (specifier.startsWith('node:') || builtinModules.includes(specifier)) return specifier
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/')
}
