// What a well-behaved client does in each client scenario of the conformance suite: an SDK client that lists, calls and
// answers. The suite's mock server judges what arrives, directly or through the adapter.

import {
  Client,
  StreamableHTTPClientTransport,
  type ClientOptions,
} from '@modelcontextprotocol/client'
import { z } from 'zod'

/** One client scenario to play. */
export interface ClientScenario {
  readonly name: string
  /** The protocol revision that the suite runs the scenario at. */
  readonly protocolVersion: string
  /** What the suite hands to the scenario, parsed from JSON; `undefined` if it hands nothing. */
  readonly context: unknown
}

const toolCallsSchema = z.object({
  toolCalls: z.array(z.object({ name: z.string(), arguments: z.record(z.string(), z.unknown()) })),
})

type Play = (client: Client, scenario: ClientScenario) => Promise<unknown>

/** Scenario name to what the client does once it is connected. */
const plays: Readonly<Record<string, Play>> = {
  initialize: (client) => client.listTools(),
  tools_call: async (client) => {
    await client.listTools()
    await client.callTool({ name: 'add_numbers', arguments: { a: 5, b: 3 } })
  },
  'elicitation-sep1034-client-defaults': async (client) => {
    await client.listTools()
    await client.callTool({ name: 'test_client_elicitation_defaults', arguments: {} })
  },
  'sse-retry': async (client) => {
    await client.listTools()
    await client.callTool({ name: 'test_reconnection', arguments: {} })
  },
  'json-schema-2020-12-preservation': async (client) => {
    const { tools } = await client.listTools()
    const schema = tools.find((tool) => tool.name === 'json_schema_2020_12_tool')?.inputSchema
    await client.callTool({ name: 'json_schema_echo', arguments: { schema } })
  },
  'request-metadata': (client) => client.listTools(),
  'sep-2322-client-request-state': async (client) => {
    await client.listTools()
    await Promise.all([
      client.callTool({ name: 'test_mrtr_echo_state', arguments: {} }),
      client.callTool({ name: 'test_mrtr_unrelated', arguments: {} }),
    ])
    await client.callTool({ name: 'test_mrtr_no_state', arguments: {} })
    // The suite wants "no resultType" taken as complete; this SDK refuses such a 2026-07-28 result. Either way the call isn't repeated.
    await client
      .callTool({ name: 'test_mrtr_no_result_type', arguments: {} })
      .catch(() => undefined)
  },
  'http-standard-headers': async (client) => {
    await client.listTools()
    // By name and not from the list: a gateway may offer tools of its own, which want arguments.
    const names = ['test_headers', 'my-hyphenated-tool']
    await eachInTurn(names, (name) => client.callTool({ name, arguments: {} }))
    const { resources } = await client.listResources()
    await eachInTurn(resources, ({ uri }) => client.readResource({ uri }))
    const { prompts } = await client.listPrompts()
    await eachInTurn(prompts, ({ name }) => client.getPrompt({ name }))
  },
  'http-custom-headers': async (client, { context }) => {
    await client.listTools()
    await eachInTurn(toolCallsSchema.parse(context).toolCalls, (call) => client.callTool(call))
  },
  'http-invalid-tool-headers': async (client) => {
    const { tools } = await client.listTools()
    await eachInTurn(tools, ({ name }) =>
      client.callTool({ name, arguments: { region: 'us-east1' } }),
    )
  },
  'json-schema-ref-no-deref': (client) => client.listTools(),
}

/** Plays one scenario against an MCP endpoint. Rejects on a scenario that isn't known and on any failed request. */
export async function playClientScenario(scenario: ClientScenario, url: string): Promise<void> {
  const play = plays[scenario.name]
  if (play === undefined) throw new Error(`no such client scenario: ${scenario.name}`)
  const client = new Client({ name: 'everything-client', version: '1.0.0' }, optionsFor(scenario))
  client.setRequestHandler('elicitation/create', ({ params }) => ({
    action: 'accept',
    content:
      'requestedSchema' in params && 'confirmed' in params.requestedSchema.properties
        ? { confirmed: true }
        : {},
  }))
  await client.connect(new StreamableHTTPClientTransport(new URL(url)))
  try {
    await play(client, scenario)
  } finally {
    await client.close()
  }
}

function optionsFor({ protocolVersion }: ClientScenario): ClientOptions {
  return {
    capabilities: { roots: {}, sampling: {}, elicitation: { form: { applyDefaults: true } } },
    versionNegotiation: { mode: protocolVersion === '2026-07-28' ? 'auto' : 'legacy' },
  }
}

async function eachInTurn<Item>(
  items: readonly Item[],
  act: (item: Item) => Promise<unknown>,
): Promise<void> {
  for (const item of items) {
    // The scenarios look at one request at a time.
    await act(item)
  }
}
