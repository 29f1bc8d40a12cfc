/**
 * A collector of OpenTelemetry that keeps what it is sent: OTLP over HTTP (protobuf) and gRPC on real sockets. It decodes the protobuf itself, by the
 * numbers of opentelemetry-proto, so that what the exporter wrote is what is tested. What it was sent is searched for secrets when the file ends.
 */
import { createServer } from 'node:http'
import type { ServerResponse } from 'node:http'
import { gunzipSync } from 'node:zlib'

import { Server, ServerCredentials, status } from '@grpc/grpc-js'

import { watchOutput } from './secret-scan.ts'

/** A span as received; ids are hexadecimal. */
export interface ReceivedSpan {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId: string
  readonly traceState: string
  readonly name: string
  readonly kind: number
  readonly startNs: bigint
  readonly endNs: bigint
  readonly attributes: Readonly<Record<string, unknown>>
  readonly statusCode: number
  readonly resource: Readonly<Record<string, unknown>>
}

/** A log record as received. */
export interface ReceivedLog {
  readonly timeNs: bigint
  readonly severity: number
  readonly severityText: string
  readonly body: unknown
  readonly attributes: Readonly<Record<string, unknown>>
  readonly resource: Readonly<Record<string, unknown>>
}

/** How it answers: as it should, never, with an error, or with what no collector says. */
export type Mood = 'well' | 'hangs' | 'fails' | 'garbage'

/** A running collector. */
export interface OtlpCollector {
  /** Base URL of OTLP over HTTP. */
  readonly url: string
  /** `host:port` of OTLP over gRPC. */
  readonly grpcTarget: string
  readonly spans: ReceivedSpan[]
  readonly logs: ReceivedLog[]
  /** Headers or metadata of each export. */
  readonly headers: Readonly<Record<string, unknown>>[]
  mood: Mood
  stop(): Promise<void>
}

const TRACE = '/opentelemetry.proto.collector.trace.v1.TraceService/Export'
const LOGS = '/opentelemetry.proto.collector.logs.v1.LogsService/Export'

/** Starts a collector on free ports of 127.0.0.1. */
export async function startOtlpCollector(): Promise<OtlpCollector> {
  const spans: ReceivedSpan[] = []
  const logs: ReceivedLog[] = []
  const headers: Readonly<Record<string, unknown>>[] = []
  const waiting = new Set<ServerResponse>()
  const receiver = { spans, logs, headers, mood: 'well' as Mood }
  watchOutput('telemetry', () =>
    JSON.stringify({ spans, logs }, (_key, value: unknown) =>
      typeof value === 'bigint' ? String(value) : value,
    ),
  )
  const take = (path: string, body: Buffer): void => {
    if (path === '/v1/traces' || path === TRACE) spans.push(...decodeSpans(body))
    else if (path === '/v1/logs' || path === LOGS) logs.push(...decodeLogs(body))
  }

  const http = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      headers.push(request.headers)
      const { mood } = receiver
      if (mood === 'hangs') {
        waiting.add(response)
        return
      }
      if (mood === 'fails') {
        response.writeHead(500).end('no')
        return
      }
      if (mood === 'garbage') {
        response.writeHead(200, { 'content-type': 'text/html' }).end('<html>\u0000\ufffd')
        return
      }
      const body = Buffer.concat(parts)
      take(
        request.url ?? '',
        request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body,
      )
      response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end()
    })
  })
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  const address = http.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0

  const grpc = new Server()
  for (const path of [TRACE, LOGS]) {
    grpc.addService(
      { Export: unaryOfBytes(path) },
      {
        Export: (
          call: { request: Buffer; metadata: { getMap(): Record<string, unknown> } },
          answer: (error: object | null, reply?: Buffer) => void,
        ) => {
          headers.push(call.metadata.getMap())
          const { mood } = receiver
          if (mood === 'hangs') return
          if (mood === 'fails') answer({ code: status.UNAVAILABLE, message: 'no' })
          else if (mood === 'garbage') answer(null, Buffer.from([0xff, 0xff, 0xff]))
          else {
            take(path, call.request)
            answer(null, Buffer.alloc(0))
          }
        },
      },
    )
  }
  const grpcPort = await new Promise<number>((resolve, reject) => {
    grpc.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
      if (error === null) resolve(bound)
      else reject(error)
    })
  })
  return Object.assign(receiver, {
    url: `http://127.0.0.1:${port}`,
    grpcTarget: `127.0.0.1:${grpcPort}`,
    stop: async () => {
      for (const response of waiting) response.destroy()
      grpc.forceShutdown()
      http.closeAllConnections()
      await new Promise((resolve) => http.close(resolve))
    },
  })
}

/** A method of gRPC whose messages stay bytes. */
function unaryOfBytes(path: string) {
  const requestStream = false as const
  const responseStream = false as const
  return {
    path,
    requestStream,
    responseStream,
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: asIs,
    responseDeserialize: asIs,
  }
}

function asIs(value: Buffer): Buffer {
  return value
}

/** Fields of a message by number: numbers for varints and fixed values, bytes for the rest. */
type Fields = ReadonlyMap<number, readonly (bigint | Buffer)[]>

function decode(message: Buffer): Fields {
  const fields = new Map<number, (bigint | Buffer)[]>()
  let at = 0
  const varint = (): bigint => {
    let value = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = message.readUInt8(at++)
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
  }
  while (at < message.length) {
    const key = Number(varint())
    const wire = key & 7
    let value: bigint | Buffer
    if (wire === 0) value = varint()
    else if (wire === 1) {
      value = message.readBigUInt64LE(at)
      at += 8
    } else if (wire === 5) {
      value = BigInt(message.readUInt32LE(at))
      at += 4
    } else if (wire === 2) {
      const length = Number(varint())
      if (at + length > message.length) throw new Error('a field is longer than its message')
      value = message.subarray(at, at + length)
      at += length
    } else throw new Error(`wire type ${wire}`)
    fields.set(key >> 3, [...(fields.get(key >> 3) ?? []), value])
  }
  return fields
}

function messages(fields: Fields, number: number): Fields[] {
  return (fields.get(number) ?? []).map((value) => decode(bytesOf(value)))
}

function bytesOf(value: bigint | Buffer | undefined): Buffer {
  return Buffer.isBuffer(value) ? value : Buffer.alloc(0)
}

function textOf(fields: Fields, number: number): string {
  return bytesOf(fields.get(number)?.[0]).toString('utf8')
}

function hexOf(fields: Fields, number: number): string {
  return bytesOf(fields.get(number)?.[0]).toString('hex')
}

function numberOf(fields: Fields, number: number): bigint {
  const value = fields.get(number)?.[0]
  return typeof value === 'bigint' ? value : 0n
}

/** `AnyValue`, as far as it is used. */
function anyOf(fields: Fields | undefined): unknown {
  if (fields === undefined) return undefined
  if (fields.has(1)) return textOf(fields, 1)
  if (fields.has(2)) return numberOf(fields, 2) === 1n
  if (fields.has(3)) return Number(BigInt.asIntN(64, numberOf(fields, 3)))
  if (fields.has(4)) {
    const bits = Buffer.alloc(8)
    bits.writeBigUInt64LE(numberOf(fields, 4))
    return bits.readDoubleLE(0)
  }
  return undefined
}

function attributesOf(fields: Fields, number: number): Record<string, unknown> {
  return Object.fromEntries(
    messages(fields, number).map((pair) => [textOf(pair, 1), anyOf(messages(pair, 2)[0])]),
  )
}

/** Both requests have the same shape around their records. */
function records(body: Buffer): { record: Fields; resource: Record<string, unknown> }[] {
  return messages(decode(body), 1).flatMap((group) => {
    const [resource] = messages(group, 1)
    const attributes = resource === undefined ? {} : attributesOf(resource, 1)
    return messages(group, 2).flatMap((scope) =>
      messages(scope, 2).map((record) => ({ record, resource: attributes })),
    )
  })
}

function decodeSpans(body: Buffer): ReceivedSpan[] {
  return records(body).map(({ record, resource }) => ({
    traceId: hexOf(record, 1),
    spanId: hexOf(record, 2),
    traceState: textOf(record, 3),
    parentSpanId: hexOf(record, 4),
    name: textOf(record, 5),
    kind: Number(numberOf(record, 6)),
    startNs: numberOf(record, 7),
    endNs: numberOf(record, 8),
    attributes: attributesOf(record, 9),
    statusCode: Number(numberOf(messages(record, 15)[0] ?? new Map(), 3)),
    resource,
  }))
}

function decodeLogs(body: Buffer): ReceivedLog[] {
  return records(body).map(({ record, resource }) => ({
    timeNs: numberOf(record, 1),
    severity: Number(numberOf(record, 2)),
    severityText: textOf(record, 3),
    body: anyOf(messages(record, 5)[0]),
    attributes: attributesOf(record, 6),
    resource,
  }))
}
