/** The files that the calls of a script produced, as they go into the result of the script. */
import type { JsonObject } from '../../shared/state/records.ts'
import { isObject } from '../exchange/json-rpc.ts'

/** Bytes of files that adapters put into results: no more of them go into the result of one script, in characters of base64 or text. */
const MAX_INLINE = 8 * 1024 * 1024
/** More links than that are left out. */
const MAX_LINKS = 1_000

/** Collects results in the order of their coming. */
export class ProducedFiles {
  readonly #artifacts: JsonObject[] = []
  readonly #blocks: JsonObject[] = []
  #inline = 0

  /** Looks at a result of `tools/call`. */
  add(result: JsonObject): void {
    const content = Array.isArray(result['content']) ? result['content'].filter(isObject) : []
    const artifacts = artifactsOf(result)
    const links = new Set<unknown>()
    for (const block of content) {
      if (block['type'] === 'resource_link') {
        links.add(block['uri'])
        this.#link(block)
      } else if (artifacts.length > 0) this.#embed(block)
    }
    for (const artifact of artifacts) {
      if (this.#artifacts.length >= MAX_LINKS) return
      this.#artifacts.push(artifact)
      const said = (field: string): string => String(artifact[field])
      const uri = said('artifact_uri')
      // Clients of revisions without links get text in their place.
      if (artifact['expose_as_resource'] === true && !links.has(uri)) {
        const kind = `${said('mime_type')}, ${said('size_bytes')} bytes`
        this.#link(text(`Artifact ${said('filename')} (${kind}): ${uri}`))
      }
      if (artifact['download_url'] !== undefined)
        this.#link(text(`Download ${said('filename')}: ${said('download_url')}`))
    }
  }

  get blocks(): readonly JsonObject[] {
    return this.#blocks
  }

  /** `_meta` as single calls have it: the first artifact, and all of them when there are several. */
  get meta(): JsonObject | undefined {
    const [first] = this.#artifacts
    if (first === undefined) return undefined
    return {
      artifact: first,
      ...(this.#artifacts.length > 1 ? { artifacts: this.#artifacts } : {}),
    }
  }

  #link(block: JsonObject): void {
    if (this.#blocks.length < MAX_LINKS * 2) this.#blocks.push(block)
  }

  #embed(block: JsonObject): void {
    const resource = isObject(block['resource']) ? block['resource'] : {}
    const bytes = block['data'] ?? resource['blob'] ?? resource['text']
    if (typeof bytes !== 'string' || this.#inline + bytes.length > MAX_INLINE) return
    this.#inline += bytes.length
    this.#blocks.push(block)
  }
}

function artifactsOf(result: JsonObject): readonly JsonObject[] {
  const meta = result['_meta']
  if (!isObject(meta)) return []
  const { artifact, artifacts } = meta
  if (Array.isArray(artifacts)) return artifacts.filter(isObject)
  return isObject(artifact) ? [artifact] : []
}

function text(line: string): JsonObject {
  return { type: 'text', text: line }
}
