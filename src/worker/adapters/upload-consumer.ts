/** Turns upload handles in the arguments of a tool call into paths that the upstream can read. Handles are looked up, never used up: a call may come again. */
import { pathToFileURL } from 'node:url'

import type { UploadConsumerConfig } from '../../shared/config/config.ts'
import { parseSessionId, parseUploadId, type UploadId } from '../../shared/ids.ts'
import type { FileRef, JsonObject, UploadRecord } from '../../shared/state/records.ts'
import { helperToolName, offersHelper } from '../catalogue/offered.ts'
import type { CallContext } from './adapter.ts'
import { isJsonObject, mapAt, valuesAt } from './dot-path.ts'
import { hasScheme, parseItemUri } from './item-uri.ts'
import { asUpstreamSees } from './session-root.ts'
import { ToolRefusal } from './tool-refusal.ts'

/** How much of a wrong value an error repeats, in characters. */
const MAX_ECHO = 100
/** More files than this are not looked up for one call. */
const MAX_HANDLES = 1000

/** Looks up what was found in the arguments of one call; see `findUploads`. */
export type ResolveUploads = () => Promise<JsonObject>

/**
 * Finds the handles at the adapter's dot-path. What is returned answers the arguments with each replaced by the absolute path of its file (or a
 * `file://` URI); what was given is not changed. Throws `ToolRefusal` when the argument is missing or holds anything that is no handle of this
 * session, and rejects with it when a handle is not usable.
 */
export function findUploads(
  context: CallContext,
  consumer: UploadConsumerConfig,
  args: unknown,
): ResolveUploads {
  const handles = handlesIn(context, consumer, args)
  if (handles.length > MAX_HANDLES) {
    const message = `The argument "${consumer.filePathArgument}" holds ${handles.length} upload handles; a call takes at most ${MAX_HANDLES}.`
    throw refusal(context, consumer, message)
  }
  const ids = new Map<string, UploadId>()
  for (const handle of handles) {
    if (!ids.has(handle)) ids.set(handle, uploadIdOf(context, consumer, handle))
  }
  return async () => {
    const targets = await locate(context, consumer, ids)
    const replaced = mapAt(args, consumer.filePathArgument, (value) =>
      Array.isArray(value)
        ? value.map((item) => targets.get(item) ?? item)
        : targets.get(String(value)),
    )
    return isJsonObject(replaced) ? replaced : {}
  }
}

function handlesIn(
  context: CallContext,
  consumer: UploadConsumerConfig,
  args: unknown,
): readonly string[] {
  const argument = consumer.filePathArgument
  const values = valuesAt(args, argument)
  if (values.length === 0 && !leadsIntoEmptyList(args, argument)) {
    throw refusal(context, consumer, `The argument "${argument}" is missing.`)
  }
  return values.flatMap((value) => {
    if (typeof value === 'string') return [value]
    if (!Array.isArray(value)) {
      const was = value === null ? 'null' : typeof value
      const message = `The argument "${argument}" must be an upload handle or a list of upload handles, but it is ${was}.`
      throw refusal(context, consumer, message)
    }
    return value.map((item: unknown, index) => {
      if (typeof item === 'string') return item
      const message = `The argument "${argument}" must be a list of upload handles, but item ${index} is not a string.`
      throw refusal(context, consumer, message)
    })
  })
}

/** An empty list of objects holds no handle and misses none. */
function leadsIntoEmptyList(args: unknown, path: string): boolean {
  const names = path.split('.')
  return names.some((_, length) => {
    if (length === 0) return false
    const values = valuesAt(args, names.slice(0, length).join('.'))
    return values.some((value) => Array.isArray(value) && value.length === 0)
  })
}

function uploadIdOf(
  context: CallContext,
  consumer: UploadConsumerConfig,
  handle: string,
): UploadId {
  const argument = consumer.filePathArgument
  const quoted = JSON.stringify(handle.slice(0, MAX_ECHO))
  if (!hasScheme(consumer.uriScheme, handle)) {
    const message = `The argument "${argument}" must be an upload handle that begins with ${consumer.uriScheme}, but it is ${quoted}.`
    throw refusal(context, consumer, message)
  }
  const uri = parseItemUri(consumer.uriScheme, handle)
  const sessionId = uri && parseSessionId(uri.sessionId)
  const uploadId = uri && parseUploadId(uri.itemId)
  if (sessionId === undefined || uploadId === undefined) {
    const message = `The upload handle ${quoted} is malformed. Pass the upload_handle exactly as the upload answered it.`
    throw refusal(context, consumer, message)
  }
  // Said before anything is looked up, so that it tells nothing about the other session.
  if (sessionId !== context.key.sessionId) {
    const message = `The upload handle ${quoted} belongs to another session. Upload the file again in this session.`
    throw refusal(context, consumer, message)
  }
  return uploadId
}

/** What to write in place of each handle. */
async function locate(
  context: CallContext,
  consumer: UploadConsumerConfig,
  ids: ReadonlyMap<string, UploadId>,
): Promise<ReadonlyMap<unknown, string>> {
  if (ids.size === 0) return new Map()
  const { store } = context.services
  const resolved = await store.resolveUploads(context.key, [...new Set(ids.values())])
  if (!resolved.ok) {
    const handle = [...ids].find(([, id]) => id === resolved.uploadId)?.[0] ?? resolved.uploadId
    throw refusal(context, consumer, UNRESOLVED[resolved.reason](handle))
  }
  const paths = new Map(
    await Promise.all(
      resolved.uploads.map(
        async (upload) => [upload.uploadId, await existingPath(context, consumer, upload)] as const,
      ),
    ),
  )
  const targets = new Map<unknown, string>()
  for (const [handle, id] of ids) {
    const path = paths.get(id)
    if (path === undefined) throw refusal(context, consumer, UNRESOLVED.unknown(handle))
    targets.set(handle, consumer.uriPrefix === true ? pathToFileURL(path).href : path)
  }
  return targets
}

const UNRESOLVED = {
  unknown: (handle: string) => `There is no upload ${handle}. Upload the file (again).`,
  expired: (handle: string) => `The upload ${handle} has expired. Upload the file again.`,
  session_gone: () => 'The session has ended. Start a new one and upload the file again.',
} as const

async function existingPath(
  context: CallContext,
  consumer: UploadConsumerConfig,
  upload: UploadRecord,
): Promise<string> {
  const { files, digests } = context.services
  const { serverId, sessionId } = context.key
  const ref: FileRef = { serverId, sessionId, kind: 'uploads', id: upload.uploadId }
  try {
    await digests.items.check(files, ref, upload.filename)
  } catch (error) {
    const message = `The file of the upload "${upload.filename}" is missing in storage. Upload the file again.`
    throw refusal(context, consumer, message, error)
  }
  return asUpstreamSees(files, context.server, files.itemPath(ref, upload.filename))
}

function refusal(
  context: CallContext,
  consumer: UploadConsumerConfig,
  message: string,
  cause?: unknown,
): ToolRefusal {
  const { server, services } = context
  const how = offersHelper(server, services.config)
    ? `Call the tool ${helperToolName(server.id)} to get an upload URL, upload the file there`
    : "Upload the file to this server's upload endpoint"
  const hint = `How to pass a file: ${how}, and put the upload_handle from the answer (${consumer.uriScheme}sessions/…) into "${consumer.filePathArgument}". Local paths, URLs and file contents do not work.`
  return new ToolRefusal(`${message}\n${hint}`, { cause })
}
