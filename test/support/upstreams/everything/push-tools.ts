// Tools that ask the client something in the middle of a call, as servers did until 2025-11-25: a JSON-RPC request on
// the call's own stream. On a 2026-07-28 request the SDK refuses that; see multi-round-tools.ts.

import type { ElicitRequestFormParams, ElicitResult, McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'
import { textResult } from './content-tools.ts'

type RequestedSchema = ElicitRequestFormParams['requestedSchema']

const userSchema: RequestedSchema = {
  type: 'object',
  properties: {
    username: { type: 'string', description: "User's response" },
    email: { type: 'string', description: "User's email address" },
  },
  required: ['username', 'email'],
}

const defaultsSchema: RequestedSchema = {
  type: 'object',
  properties: {
    name: { type: 'string', default: 'John Doe' },
    age: { type: 'integer', default: 30 },
    score: { type: 'number', default: 95.5 },
    status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
    verified: { type: 'boolean', default: true },
  },
  required: [],
}

const titledOptions = [
  { const: 'value1', title: 'First Option' },
  { const: 'value2', title: 'Second Option' },
  { const: 'value3', title: 'Third Option' },
]
const options = ['option1', 'option2', 'option3']

const enumsSchema: RequestedSchema = {
  type: 'object',
  properties: {
    untitledSingle: { type: 'string', enum: options },
    titledSingle: { type: 'string', oneOf: titledOptions },
    legacyEnum: {
      type: 'string',
      enum: ['opt1', 'opt2', 'opt3'],
      enumNames: ['Option One', 'Option Two', 'Option Three'],
    },
    untitledMulti: { type: 'array', items: { type: 'string', enum: options } },
    titledMulti: { type: 'array', items: { anyOf: titledOptions } },
  },
  required: [],
}

/** Registers the tools that send sampling and elicitation requests. */
export function registerPushTools(server: McpServer): void {
  server.registerTool(
    'test_sampling',
    { description: 'Asks the client to sample', inputSchema: z.object({ prompt: z.string() }) },
    async ({ prompt }, ctx) => {
      const answer = await ctx.mcpReq.requestSampling({
        messages: [{ role: 'user', content: { type: 'text', text: prompt } }],
        maxTokens: 100,
      })
      const block = Array.isArray(answer.content) ? answer.content[0] : answer.content
      return textResult(
        `LLM response: ${block?.type === 'text' ? block.text : JSON.stringify(block)}`,
      )
    },
  )
  server.registerTool(
    'test_elicitation',
    { description: 'Asks the user for a name', inputSchema: z.object({ message: z.string() }) },
    async ({ message }, ctx) => {
      const answer = await ctx.mcpReq.elicitInput({ message, requestedSchema: userSchema })
      return textResult(`User response: ${describe(answer)}`)
    },
  )
  const forms = {
    test_elicitation_sep1034_defaults: defaultsSchema,
    test_elicitation_sep1330_enums: enumsSchema,
  }
  for (const [name, requestedSchema] of Object.entries(forms)) {
    server.registerTool(name, { description: 'Asks the user to fill in a form' }, async (ctx) => {
      const answer = await ctx.mcpReq.elicitInput({ message: 'Please fill in', requestedSchema })
      return textResult(`Elicitation completed: ${describe(answer)}`)
    })
  }
}

function describe(answer: ElicitResult): string {
  return `action=${answer.action}, content=${JSON.stringify(answer.content ?? {})}`
}
