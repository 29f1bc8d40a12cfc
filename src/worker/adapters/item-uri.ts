/** URIs of stored files as clients see them: `<scheme>sessions/<session>/<item>[/<name>]`, for upload handles and for artifacts. */

/** The parts of an item URI; `filename` is decoded and absent when the URI has none. Ids are not checked yet. */
export interface ItemUri {
  readonly sessionId: string
  readonly itemId: string
  readonly filename: string | undefined
}

const REST = /^sessions\/([A-Za-z0-9_-]+)\/([A-Za-z0-9_-]+)(?:\/([^/?#]*))?$/

/** The URI of an artifact of a session. */
export function formatArtifactUri(
  scheme: string,
  artifact: { readonly sessionId: string; readonly artifactId: string; readonly filename: string },
): string {
  const name = encodeURIComponent(artifact.filename)
  return `${scheme}sessions/${artifact.sessionId}/${artifact.artifactId}/${name}`
}

/** True when the text begins like an item URI of this scheme; schemes ignore case. */
export function hasScheme(scheme: string, text: string): boolean {
  return text.slice(0, scheme.length).toLowerCase() === scheme.toLowerCase()
}

/** Reads an item URI of this scheme; undefined when the text is not one. */
export function parseItemUri(scheme: string, text: string): ItemUri | undefined {
  if (!hasScheme(scheme, text)) return undefined
  const match = REST.exec(text.slice(scheme.length))
  const [, sessionId, itemId, encodedName] = match ?? []
  if (sessionId === undefined || itemId === undefined) return undefined
  if (encodedName === undefined || encodedName === '') {
    return { sessionId, itemId, filename: undefined }
  }
  try {
    return { sessionId, itemId, filename: decodeURIComponent(encodedName) }
  } catch {
    return undefined
  }
}
