/** Puts the adapters of a tool together: uploads in, artifacts out. */
import type { JsonObject } from '../../shared/state/records.ts'
import { consumerOf, producerOf } from '../catalogue/offered.ts'
import { toolError, type CallContext, type Preparation } from './adapter.ts'
import { ArtifactProduction } from './artifact-producer.ts'
import { isJsonObject } from './dot-path.ts'
import { ToolRefusal } from './tool-refusal.ts'
import { findUploads } from './upload-consumer.ts'

/**
 * Prepares a `tools/call` for the tool's adapters; undefined when none applies and the call passes through as it is. `params` are not changed.
 * Rejects only when the state store or the file store fails before the tool has run.
 */
export async function prepareToolCall(
  context: CallContext,
  toolName: string,
  params: JsonObject,
  protocolVersion?: string,
): Promise<Preparation | undefined> {
  const { config } = context.services
  const consumer = consumerOf(context.server, config, toolName)
  const adapter = producerOf(context.server, config, toolName)
  const given = params['arguments'] ?? {}
  try {
    const resolve = consumer === undefined ? undefined : findUploads(context, consumer, given)
    // A task's result comes much later by another method, and arguments that are no object are the upstream's to refuse.
    const produces = adapter !== undefined && params['task'] === undefined
    if (produces && (resolve !== undefined || isJsonObject(given))) {
      const options = { adapter, toolName, protocolVersion }
      const asked = isJsonObject(given) ? given : {}
      const { args, production } = await together(
        resolve?.() ?? Promise.resolve(asked),
        ArtifactProduction.begin(context, options, asked),
      )
      return {
        kind: 'call',
        call: {
          params: { ...params, arguments: production.argsFor(args) },
          finish: (result) => production.finish(result),
          abandon: () => production.abandon(),
        },
      }
    }
    if (resolve === undefined) return undefined
    return { kind: 'params', params: { ...params, arguments: await resolve() } }
  } catch (error) {
    if (error instanceof ToolRefusal) return { kind: 'result', result: toolError(error.message) }
    throw error
  }
}

/**
 * At the same time, so that what both ask of the store and of the disk goes there together. What is wrong with an upload is told first, and leaves
 * nothing allocated.
 */
async function together(
  resolving: Promise<JsonObject>,
  beginning: Promise<ArtifactProduction>,
): Promise<{ readonly args: JsonObject; readonly production: ArtifactProduction }> {
  const [resolved, begun] = await Promise.allSettled([resolving, beginning])
  if (resolved.status === 'rejected') {
    if (begun.status === 'fulfilled') await begun.value.abandon()
    throw resolved.reason
  }
  if (begun.status === 'rejected') throw begun.reason
  return { args: resolved.value, production: begun.value }
}
