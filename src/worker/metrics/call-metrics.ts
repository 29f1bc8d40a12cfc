/** Counts tool calls that go to an upstream, wrapped ones and others. */
import type { ServerConfig } from '../../shared/config/config.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import type { Labels, LabelOf } from '../../shared/telemetry/catalogue.ts'
import type { Recorder } from '../../shared/telemetry/recorder.ts'
import { hasAdapter } from '../catalogue/offered.ts'

/** How a request to an upstream ended. */
export type CallOutcome = LabelOf<'adapter_upstream_tool_calls_total', 'result'>

/** Tools without an adapter are not told apart: their names are the upstream's and the clients' to choose. */
const OTHER_TOOL = 'other'

interface Sent {
  readonly method: string
  readonly params?: JsonObject | undefined
}

/** See the file comment. One per worker and server. */
export class CallMetrics {
  readonly #server: ServerConfig
  readonly #recorder: Recorder

  constructor(server: ServerConfig, recorder: Recorder) {
    this.#server = server
    this.#recorder = recorder
  }

  /** Requests are sent now; answers what to call when they have ended, where there is something to count. */
  begin(requests: readonly Sent[]): ((outcome: CallOutcome) => void) | undefined {
    if (!this.#recorder.isOn) return undefined
    const calls = requests.filter(({ method }) => method === 'tools/call')
    if (calls.length === 0) return undefined
    const startedAtMs = performance.now()
    return (result) => {
      const seconds = (performance.now() - startedAtMs) / 1_000
      for (const { params } of calls) this.#count(params?.['name'], result, seconds)
    }
  }

  #count(name: unknown, result: CallOutcome, seconds: number): void {
    const isOurs = typeof name === 'string' && hasAdapter(this.#server, name)
    const labels: Labels<'adapter_upstream_tool_calls_total'> = {
      server_id: this.#server.id,
      tool_name: isOurs ? name : OTHER_TOOL,
      result,
    }
    this.#recorder.add('adapter_upstream_tool_calls_total', labels)
    this.#recorder.observe('adapter_upstream_tool_call_duration_seconds', labels, seconds)
  }
}
