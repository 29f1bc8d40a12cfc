// Tools that ask the client something the 2026-07-28 way: they answer `input_required`, and the client calls again with
// its answers and the state it was given. For older clients the SDK turns the same questions into pushed requests.

import {
  acceptedContent,
  CLIENT_CAPABILITIES_META_KEY,
  inputRequired,
  inputResponse,
  type CallToolResult,
  type InputRequest,
  type InputRequiredResult,
  type McpServer,
  type ServerContext,
} from '@modelcontextprotocol/server'
import { z } from 'zod'
import { textResult } from './content-tools.ts'
import type { EverythingContext } from './everything-context.ts'

const nameAnswer = z.object({ name: z.string() })

type Answer = CallToolResult | InputRequiredResult

/** Registers the tools that need several rounds. */
export function registerMultiRoundTools(server: McpServer, context: EverythingContext): void {
  registerSingleQuestionTools(server)
  registerStatefulTools(server, context)
  registerCapabilityTools(server)
}

function registerSingleQuestionTools(server: McpServer): void {
  for (const name of ['test_input_required_result_elicitation', 'test_streaming_elicitation']) {
    server.registerTool(name, { description: 'Asks for a name' }, (ctx): Answer => {
      const answer = acceptedContent(ctx.mcpReq.inputResponses, 'user_name', nameAnswer)
      if (answer === undefined) return inputRequired({ inputRequests: { user_name: askForName } })
      return textResult(`Hello, ${answer.name}!`)
    })
  }
  server.registerTool(
    'test_input_required_result_sampling',
    { description: 'Asks the model a question' },
    (ctx): Answer => {
      const answer = inputResponse(ctx.mcpReq.inputResponses, 'capital_question')
      if (answer.kind === 'sampling') return textResult(JSON.stringify(answer.result.content))
      return inputRequired({
        inputRequests: { capital_question: sample('What is the capital of France?', 100) },
      })
    },
  )
  server.registerTool(
    'test_input_required_result_list_roots',
    { description: 'Asks for the roots' },
    (ctx): Answer => {
      const answer = inputResponse(ctx.mcpReq.inputResponses, 'client_roots')
      if (answer.kind === 'roots') return textResult(`Roots: ${JSON.stringify(answer.roots)}`)
      return inputRequired({ inputRequests: { client_roots: inputRequired.listRoots() } })
    },
  )
}

function registerStatefulTools(server: McpServer, { requestState }: EverythingContext): void {
  const confirmTools = [
    'test_input_required_result_request_state',
    'test_input_required_result_tampered_state',
  ]
  for (const name of confirmTools) {
    server.registerTool(
      name,
      { description: 'Asks for a confirmation' },
      async (ctx): Promise<Answer> => {
        const state = ctx.mcpReq.requestState<{ step: string }>()
        const answered = inputResponse(ctx.mcpReq.inputResponses, 'confirm').kind === 'elicit'
        if (answered && state?.step === 'confirm') return textResult('state-ok')
        return inputRequired({
          inputRequests: { confirm: ask('Please confirm', { ok: { type: 'boolean' } }) },
          requestState: await requestState.mint({ step: 'confirm' }),
        })
      },
    )
  }
  server.registerTool(
    'test_input_required_result_multiple_inputs',
    { description: 'Asks three things at once' },
    async (ctx): Promise<Answer> => {
      const keys = ['user_name', 'greeting', 'client_roots']
      const given = keys.every(
        (key) => inputResponse(ctx.mcpReq.inputResponses, key).kind !== 'missing',
      )
      if (given) return textResult(`Answered: ${keys.join(', ')}`)
      return inputRequired({
        inputRequests: {
          user_name: askForName,
          greeting: sample('Generate a greeting', 50),
          client_roots: inputRequired.listRoots(),
        },
        requestState: await requestState.mint({ step: 'multiple' }),
      })
    },
  )
  server.registerTool(
    'test_input_required_result_multi_round',
    { description: 'Asks two things, one after the other' },
    async (ctx): Promise<Answer> => {
      const step = ctx.mcpReq.requestState<{ step: string }>()?.step
      const has = (key: string): boolean =>
        inputResponse(ctx.mcpReq.inputResponses, key).kind === 'elicit'
      if (step === 'step2' && has('step2')) return textResult('Both steps are done')
      const next = step === 'step1' && has('step1') ? 'step2' : 'step1'
      return inputRequired({
        inputRequests: { [next]: multiRoundQuestions[next] },
        requestState: await requestState.mint({ step: next }),
      })
    },
  )
}

function registerCapabilityTools(server: McpServer): void {
  server.registerTool(
    'test_input_required_result_capabilities',
    { description: 'Asks only what the client said that it can answer' },
    (ctx): Answer => {
      if (Object.keys(ctx.mcpReq.inputResponses ?? {}).length > 0) return textResult('Thank you')
      const capabilities = declaredCapabilities(ctx)
      const inputRequests: Record<string, InputRequest> = {}
      if (capabilities.sampling) inputRequests['greeting'] = sample('Generate a greeting', 50)
      if (capabilities.elicitation) inputRequests['user_name'] = askForName
      if (Object.keys(inputRequests).length === 0) return textResult('There is nothing to ask you')
      return inputRequired({ inputRequests })
    },
  )
  server.registerTool(
    'test_missing_capability',
    {
      description:
        'Asks for sampling even of a client that did not declare it, which the SDK refuses',
    },
    (ctx): Answer => {
      const answer = inputResponse(ctx.mcpReq.inputResponses, 'greeting')
      if (answer.kind === 'sampling') return textResult('Sampling is declared')
      return inputRequired({ inputRequests: { greeting: sample('Generate a greeting', 50) } })
    },
  )
}

const envelopeSchema = z.object({
  [CLIENT_CAPABILITIES_META_KEY]: z
    .object({ sampling: z.unknown(), elicitation: z.unknown() })
    .partial(),
})

function declaredCapabilities(ctx: ServerContext): { sampling?: unknown; elicitation?: unknown } {
  const envelope = envelopeSchema.safeParse(ctx.mcpReq.envelope)
  return envelope.success ? envelope.data[CLIENT_CAPABILITIES_META_KEY] : {}
}

type Properties = Parameters<typeof inputRequired.elicit>[0] extends { requestedSchema: infer S }
  ? Extract<S, { properties: unknown }>['properties']
  : never

function ask(message: string, properties: Properties): InputRequest {
  const requestedSchema = { type: 'object' as const, properties, required: Object.keys(properties) }
  return inputRequired.elicit({ message, requestedSchema })
}

function sample(text: string, maxTokens: number): InputRequest {
  return inputRequired.createMessage({
    messages: [{ role: 'user', content: { type: 'text', text } }],
    maxTokens,
  })
}

const askForName = ask('What is your name?', { name: { type: 'string' } })

const multiRoundQuestions = {
  step1: ask('Step 1: What is your name?', { name: { type: 'string' } }),
  step2: ask('Step 2: What is your favorite color?', { color: { type: 'string' } }),
}
