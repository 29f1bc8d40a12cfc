/** An adapter that traces, in front of the upstreams that tests of traces use. */
import { noted } from './secret-scan.ts'
import type { OtlpCollector } from './otlp-collector.ts'
import { startReplica } from './replica.ts'
import type { Replica } from './replica.ts'

/** What goes to the collector as `X-Collector-Key`. */
export const COLLECTOR_KEY = noted('collector-key-0123456789')

/** URLs of the upstreams; a server that has none is left out. */
export interface TracedUpstreams {
  readonly scripted: string
  readonly stateless?: string
  readonly everything?: string
}

/** Starts it, over HTTP unless told otherwise. */
export function startTracing(
  upstreams: TracedUpstreams,
  receiver: Pick<OtlpCollector, 'url'>,
  traces: Readonly<Record<string, unknown>>,
  telemetry: Readonly<Record<string, unknown>> = {},
): Promise<Replica> {
  const { scripted, stateless, everything } = upstreams
  const plain = [
    { id: 'everything', mount_path: '/mcp/everything', upstream: { url: everything } },
    { id: 'modern', mount_path: '/mcp/modern', upstream: { url: stateless } },
  ]
  return startReplica({
    config: {
      core: { workers: 1 },
      telemetry: {
        enabled: true,
        transport: 'http',
        headers: { 'X-Collector-Key': COLLECTOR_KEY },
        service_name: 'adapter-under-test',
        service_namespace: 'tests',
        ...telemetry,
        traces: {
          enabled: true,
          endpoint: `${receiver.url}/v1/traces`,
          schedule_delay_millis: 50,
          ...traces,
        },
      },
      servers: [
        ...plain.filter(({ upstream }) => upstream.url !== undefined),
        {
          id: 'coded',
          mount_path: '/mcp/coded',
          upstream: { url: scripted },
          code_mode_enabled: true,
        },
        {
          id: 'scripted',
          mount_path: '/mcp/scripted',
          upstream: { url: scripted },
          adapters: [
            { type: 'artifact_producer', tools: ['render', 'paint'], output_path_argument: 'out' },
          ],
        },
      ],
    },
  })
}
