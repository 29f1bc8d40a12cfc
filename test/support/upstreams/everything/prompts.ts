// The everything server's prompts, one of which asks for input before it can be given.

import {
  acceptedContent,
  completable,
  inputRequired,
  type GetPromptResult,
  type McpServer,
} from '@modelcontextprotocol/server'
import { z } from 'zod'
import { redPixelPng } from './media.ts'

type PromptContent = GetPromptResult['messages'][number]['content']

function userPrompt(...contents: PromptContent[]): GetPromptResult {
  return { messages: contents.map((content) => ({ role: 'user', content })) }
}

function text(value: string): PromptContent {
  return { type: 'text', text: value }
}

const completions = ['paris', 'park', 'party', 'test']
const contextAnswer = z.object({ context: z.string() })

/** Registers the prompts. */
export function registerPrompts(server: McpServer): void {
  server.registerPrompt('test_simple_prompt', { description: 'A prompt without arguments' }, () =>
    userPrompt(text('This is a simple prompt for testing.')),
  )
  const complete = (value: string): string[] => completions.filter((word) => word.startsWith(value))
  const twoArguments = z.object({
    arg1: completable(z.string().describe('First test argument'), complete),
    arg2: completable(z.string().describe('Second test argument'), complete),
  })
  server.registerPrompt(
    'test_prompt_with_arguments',
    { description: 'A prompt with two arguments', argsSchema: twoArguments },
    ({ arg1, arg2 }) => userPrompt(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)),
  )
  server.registerPrompt(
    'test_prompt_with_embedded_resource',
    {
      description: 'A prompt that embeds a resource',
      argsSchema: z.object({ resourceUri: z.string() }),
    },
    ({ resourceUri: uri }) => {
      const resource = {
        uri,
        mimeType: 'text/plain',
        text: 'Embedded resource content for testing.',
      }
      return userPrompt(
        { type: 'resource', resource },
        text('Please process the embedded resource above.'),
      )
    },
  )
  server.registerPrompt('test_prompt_with_image', { description: 'A prompt with an image' }, () =>
    userPrompt(
      { type: 'image', data: redPixelPng, mimeType: 'image/png' },
      text('Please analyze the image above.'),
    ),
  )
  server.registerPrompt(
    'test_input_required_result_prompt',
    { description: 'A prompt that needs input' },
    (ctx) => {
      const answer = acceptedContent(ctx.mcpReq.inputResponses, 'user_context', contextAnswer)
      if (answer !== undefined) return userPrompt(text(`Prompt with context: ${answer.context}`))
      const question = inputRequired.elicit({
        message: 'What context should the prompt use?',
        requestedSchema: {
          type: 'object',
          properties: { context: { type: 'string' } },
          required: ['context'],
        },
      })
      return inputRequired({ inputRequests: { user_context: question } })
    },
  )
}
