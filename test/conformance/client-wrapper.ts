// The command that the conformance suite runs as "the client": `node client-wrapper.js <target> <mock server URL>`.
// Starts the target in front of the suite's mock server and plays the scenario against it; `direct` leaves the target out.

import { playClientScenario } from './everything-client.ts'
import { startDirect, startTargetOf } from './target.ts'

const [target = 'direct', mockServerUrl = ''] = process.argv.slice(2)
const context = process.env['MCP_CONFORMANCE_CONTEXT']
const scenario = {
  name: process.env['MCP_CONFORMANCE_SCENARIO'] ?? '',
  protocolVersion: process.env['MCP_CONFORMANCE_PROTOCOL_VERSION'] ?? '',
  context: context === undefined ? undefined : (JSON.parse(context) as unknown),
}
const running =
  target === 'direct' ? startDirect(mockServerUrl) : await startTargetOf(target, mockServerUrl)
try {
  await playClientScenario(scenario, running.url)
} finally {
  await running.stop()
}
