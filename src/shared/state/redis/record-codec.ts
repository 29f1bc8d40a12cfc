/**
 * Records as msgpack. They are plain maps, so a field that a newer version added survives being read and written here; what a version changes must
 * only add fields.
 */
import { Packr } from 'msgpackr'

import type { ArtifactRecord, SessionKey, SessionRecord, UploadRecord } from '../records.ts'

/** The version that is written, and one newer: replicas are upgraded one after another. */
const READABLE_VERSIONS: ReadonlySet<unknown> = new Set([1, 2])

const packr = new Packr({ useRecords: false, int64AsType: 'number' })

/** Packs any plain object. */
export function pack(value: object): Buffer {
  return packr.pack(value)
}

/** The record of this session; undefined when the bytes are not one that this version understands. */
export function unpackSession(bytes: Buffer, key: SessionKey): SessionRecord | undefined {
  const value = unpackOne(bytes)
  const isReadable =
    READABLE_VERSIONS.has(value?.['schemaVersion']) &&
    value?.['serverId'] === key.serverId &&
    value['sessionId'] === key.sessionId
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- versions that are readable have these fields
  return isReadable ? (value as unknown as SessionRecord) : undefined
}

/** An upload's record; undefined when the bytes are none. */
export function unpackUpload(bytes: Buffer): UploadRecord | undefined {
  const value = unpackOne(bytes)
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only packed upload records are stored as such
  return typeof value?.['uploadId'] === 'string' ? (value as unknown as UploadRecord) : undefined
}

/** An artifact and its place among those of the session. */
export interface StoredArtifact {
  readonly record: ArtifactRecord
  readonly order: number
}

/**
 * An artifact from the maps that were written one after another when it was allocated and when it was committed; later ones win. `order` grows with
 * each commit in the session. Undefined when the bytes are none.
 */
export function unpackArtifact(bytes: Buffer): StoredArtifact | undefined {
  const merged: { [field: string]: unknown } = {}
  try {
    packr.unpackMultiple(bytes, (part: unknown) => void Object.assign(merged, part))
  } catch {
    return undefined
  }
  const { order, ...record } = merged
  if (typeof record['artifactId'] !== 'string' || typeof order !== 'number') return undefined
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- both parts together have these fields
  return { record: record as unknown as ArtifactRecord, order }
}

function unpackOne(bytes: Buffer): { readonly [field: string]: unknown } | undefined {
  try {
    const value: unknown = packr.unpack(bytes)
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- an object may have any field
    return isObject(value) ? (value as { readonly [field: string]: unknown }) : undefined
  } catch {
    return undefined
  }
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}
