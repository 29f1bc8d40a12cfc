/** Puts the adapters of a tool together: uploads in, artifacts out. */
import type { JsonObject } from '../../shared/state/records.ts'
import { consumerOf, producerOf } from '../catalogue/offered.ts'
import { toolError, type CallContext, type Preparation } from './adapter.ts'
import { ArtifactProduction } from './artifact-producer.ts'
import { isJsonObject } from './dot-path.ts'
import { ToolRefusal } from './tool-refusal.ts'
import { resolveUploads } from './upload-consumer.ts'

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
  const given = params['arguments']
  try {
    const args =
      consumer === undefined ? (given ?? {}) : await resolveUploads(context, consumer, given ?? {})
    // A task's result comes much later by another method, and arguments that are no object are the upstream's to refuse.
    if (adapter !== undefined && params['task'] === undefined && isJsonObject(args)) {
      const options = { adapter, toolName, protocolVersion }
      const production = await ArtifactProduction.begin(context, options, args)
      return {
        kind: 'call',
        call: {
          params: { ...params, arguments: production.args },
          finish: (result) => production.finish(result),
          abandon: () => production.abandon(),
        },
      }
    }
    if (consumer === undefined) return undefined
    return { kind: 'params', params: { ...params, arguments: args } }
  } catch (error) {
    if (error instanceof ToolRefusal) return { kind: 'result', result: toolError(error.message) }
    throw error
  }
}
