/** Sends metrics to a collector over OTLP: protobuf over HTTP, or gRPC. Only what is used is loaded. */
import { ExportResultCode } from '@opentelemetry/core'
import type { PushMetricExporter, ResourceMetrics } from '@opentelemetry/sdk-metrics'

import type { CollectorOptions } from '../telemetry-options.ts'
import { grpcAddress, httpAddress } from './collector-address.ts'

/** What the exporter gets beyond the time limit that it keeps itself, in milliseconds; then it is not waited for any more. */
const MARGIN_MS = 1_000

/** An exporter that was opened. */
export interface OtlpExporter {
  /** Rejects when the collector did not take it; settles within the time limit and a second. */
  send(metrics: ResourceMetrics): Promise<void>
}

/** Loads the exporter that the configuration asks for. It connects when there is something to send. */
export async function openOtlpExporter(options: CollectorOptions): Promise<OtlpExporter> {
  const exporter = await (options.transport === 'grpc' ? openGrpc(options) : openHttp(options))
  return {
    send: (metrics) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(
          () => reject(new Error(`the collector did not answer in ${options.timeoutMs} ms`)),
          options.timeoutMs + MARGIN_MS,
        )
        exporter.export(metrics, ({ code, error }) => {
          clearTimeout(timer)
          if (code === ExportResultCode.SUCCESS) resolve()
          else reject(error ?? new Error('the collector did not take it'))
        })
      }),
  }
}

async function openHttp(options: CollectorOptions): Promise<PushMetricExporter> {
  const { OTLPMetricExporter } = await import('@opentelemetry/exporter-metrics-otlp-proto')
  const { url, authorization } = httpAddress(options.endpoint)
  return new OTLPMetricExporter({
    url,
    headers: { ...authorization, ...options.headers },
    timeoutMillis: options.timeoutMs,
  })
}

async function openGrpc(options: CollectorOptions): Promise<PushMetricExporter> {
  const { credentials, Metadata } = await import('@grpc/grpc-js')
  const { OTLPMetricExporter } = await import('@opentelemetry/exporter-metrics-otlp-grpc')
  const { url, isTls, authorization } = grpcAddress(options.endpoint, options.insecure)
  const metadata = new Metadata()
  for (const [name, value] of Object.entries({ ...authorization, ...options.headers }))
    metadata.set(name, value)
  return new OTLPMetricExporter({
    url,
    metadata,
    credentials: isTls ? credentials.createSsl() : credentials.createInsecure(),
    timeoutMillis: options.timeoutMs,
  })
}
