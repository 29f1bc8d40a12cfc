/** A collector for tests, over HTTP or gRPC: decodes what it is sent, and can be dead slow or answer nonsense. */
import { createServer } from 'node:http'
import type { IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'

import { Server, ServerCredentials, status } from '@grpc/grpc-js'

import { attributesOf, decodeExport } from './otlp-proto.ts'
import type { DataPoint, Metric } from './otlp-proto.ts'

/** What it does with a request: takes it, never answers, answers nonsense, or refuses. */
export type Manner = 'takes' | 'hangs' | 'raves' | 'refuses'

/** What is known of a metric: the latest of each label set. */
export interface ReceivedMetric {
  readonly metric: Metric
  readonly points: ReadonlyMap<string, DataPoint>
}

/** Path of the only method. */
const EXPORT = '/opentelemetry.proto.collector.metrics.v1.MetricsService/Export'

/** See the file comment. */
export class OtlpReceiver {
  manner: Manner = 'takes'
  /** Requests that arrived, whatever became of them. */
  requests = 0
  /** Headers or metadata of the last request. */
  headers: IncomingHttpHeaders | Readonly<Record<string, unknown>> = {}
  /** Path of the last request over HTTP. */
  path = ''
  resource: Readonly<Record<string, string>> = {}
  scope = { name: '', version: '' }
  /** Everything that was decoded, as text. */
  text = ''
  /** Data points of each request. */
  readonly batchSizes: number[] = []
  readonly #metrics = new Map<string, { metric: Metric; points: Map<string, DataPoint> }>()
  /** Label sets whose value fell, of what may only grow. */
  readonly fallen: string[] = []
  readonly url: string
  readonly stop: () => Promise<void>

  private constructor(listening: { url: string; stop: () => Promise<void> }) {
    this.url = listening.url
    this.stop = listening.stop
  }

  /** Over HTTP; `url` is the endpoint. */
  static async http(): Promise<OtlpReceiver> {
    let receiver: OtlpReceiver | undefined
    const server = createServer((request, response) => {
      const parts: Buffer[] = []
      request.on('data', (part: Buffer) => parts.push(part))
      request.on('end', () => {
        if (receiver === undefined) return
        receiver.path = request.url ?? ''
        receiver.#arrived(request.headers)
        switch (receiver.manner) {
          case 'hangs':
            return
          case 'raves':
            response.writeHead(200, { 'content-type': 'application/x-protobuf' })
            response.end(Buffer.alloc(100_000, 0xff))
            return
          case 'refuses':
            response.writeHead(400).end('no')
            return
          case 'takes':
            receiver.#take(Buffer.concat(parts))
            response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end()
        }
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo // TCP
    receiver = new OtlpReceiver({
      url: `http://127.0.0.1:${port}/v1/metrics`,
      stop: async () => {
        server.closeAllConnections()
        await new Promise((resolve) => server.close(resolve))
      },
    })
    return receiver
  }

  /** Over gRPC. */
  static async grpc(): Promise<OtlpReceiver> {
    let receiver: OtlpReceiver | undefined
    const server = new Server()
    const method = {
      path: EXPORT,
      requestStream: false,
      responseStream: false,
      requestSerialize: (bytes: Buffer) => bytes,
      requestDeserialize: (bytes: Buffer) => bytes,
      responseSerialize: (bytes: Buffer) => bytes,
      responseDeserialize: (bytes: Buffer) => bytes,
    }
    server.addService(
      { export: method },
      {
        export: (
          call: { request: Buffer; metadata: { getMap(): Readonly<Record<string, unknown>> } },
          done: (error: object | null, answer?: Buffer) => void,
        ) => {
          if (receiver === undefined) return
          receiver.#arrived(call.metadata.getMap())
          switch (receiver.manner) {
            case 'hangs':
              return
            case 'raves':
              done(null, Buffer.alloc(1_000, 0xff))
              return
            case 'refuses':
              done({ code: status.INVALID_ARGUMENT, details: 'no' })
              return
            case 'takes':
              receiver.#take(call.request)
              done(null, Buffer.alloc(0))
          }
        },
      },
    )
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      )
    })
    receiver = new OtlpReceiver({
      url: `http://127.0.0.1:${port}`,
      stop: () => {
        server.forceShutdown()
        return Promise.resolve()
      },
    })
    return receiver
  }

  /** Names of all metrics that came. */
  get names(): readonly string[] {
    return [...this.#metrics.keys()]
  }

  metric(name: string): ReceivedMetric | undefined {
    return this.#metrics.get(name)
  }

  /** The sum over all label sets that have at least these labels: of values, or of the counts of histograms. */
  total(name: string, labels: Readonly<Record<string, string>> = {}): number {
    const points = [...(this.#metrics.get(name)?.points.values() ?? [])]
    return points
      .filter(({ attributes }) => {
        const had = attributesOf(attributes)
        return Object.entries(labels).every(([label, value]) => had[label] === value)
      })
      .reduce((sum, point) => sum + valueOf(point), 0)
  }

  #arrived(headers: OtlpReceiver['headers']): void {
    this.requests++
    this.headers = headers
  }

  #take(bytes: Uint8Array): void {
    const decoded = decodeExport(bytes)
    this.text += JSON.stringify(decoded)
    let size = 0
    for (const { resource, scopeMetrics } of decoded.resourceMetrics) {
      this.resource = attributesOf(resource.attributes)
      for (const { scope, metrics } of scopeMetrics) {
        this.scope = scope
        for (const metric of metrics) size += this.#takeMetric(metric)
      }
    }
    this.batchSizes.push(size)
  }

  #takeMetric(metric: Metric): number {
    const known = this.#metrics.get(metric.name) ?? { metric, points: new Map() }
    this.#metrics.set(metric.name, known)
    const points = (metric.sum ?? metric.gauge ?? metric.histogram)?.dataPoints ?? []
    for (const point of points) {
      const key = JSON.stringify(attributesOf(point.attributes))
      const before = known.points.get(key)
      if (metric.gauge === undefined && before !== undefined && valueOf(point) < valueOf(before))
        this.fallen.push(`${metric.name}${key}`)
      known.points.set(key, point)
    }
    return points.length
  }
}

function valueOf(point: DataPoint): number {
  return point.asDouble ?? Number(point.asInt ?? point.count ?? 0)
}
