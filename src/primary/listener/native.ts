/** Picks and loads a prebuilt uWebSockets.js, or says what would load. */
import { createRequire } from 'node:module'

import type * as UWS from 'uWebSockets.js'

/** The part of uWebSockets.js that both builds have. */
export type Uws = Pick<typeof UWS, 'us_listen_socket_close' | 'us_socket_local_port'> & {
  App(): TemplatedApp
  SSLApp(options: TlsOptions): TemplatedApp
}
export type { HttpRequest, HttpResponse, us_listen_socket } from 'uWebSockets.js'

/** What TLS is ended with, as uWebSockets.js takes it. */
export interface TlsOptions {
  readonly cert_file_name: string
  readonly key_file_name: string
  readonly passphrase?: string
}

/** The application type with the form of `listen` that both builds have and neither declares: host, port, options, callback. */
export type TemplatedApp = Omit<UWS.TemplatedApp, 'listen'> & {
  listen(
    host: string,
    port: number,
    options: number,
    listening: (socket: UWS.us_listen_socket | false) => void,
  ): unknown
}

/** `listen` option: fail when the port is taken, rather than share it with another process (`LIBUS_LISTEN_EXCLUSIVE_PORT`). */
export const EXCLUSIVE_PORT = 1

/** Largest request head, in bytes; uWebSockets.js answers 431 beyond. Its own default of 4 KiB is too small for access tokens. */
const MAX_REQUEST_HEAD_BYTES = 65_536

/** A loaded build. */
export interface NativeListener {
  readonly uws: Uws
  /** For the start-up log: which build this is. */
  readonly build: 'current' | 'glibc-2.27'
  readonly supportsTls: boolean
  /** Largest Content-Length: a request with a larger one is cut off without an answer. Null when there is no such limit. */
  readonly maxContentLength: number | null
}

/** Loads the first build that runs here. Throws an error that names each build tried, why it failed and what would load. */
export function loadNative(): NativeListener {
  process.env['UWS_HTTP_MAX_HEADERS_SIZE'] ??= String(MAX_REQUEST_HEAD_BYTES)
  const require = createRequire(import.meta.url)
  const failures: string[] = []
  try {
    // The package's own type declaration.
    const uws = require('uWebSockets.js') as Uws
    return { uws, build: 'current', supportsTls: true, maxContentLength: null }
  } catch (error) {
    failures.push(`current build (Node 20, 22, 24 or 25; glibc 2.38 or newer): ${firstLine(error)}`)
  }
  try {
    // The binary itself: the package's entry point would fall back to a slow JavaScript imitation without saying so in its result.
    const binary = `uwebsockets-glibc227/binaries/uws_${process.platform}_${process.arch}_${process.versions.modules}.node`
    const uws = require(binary) as Uws // the type of the other package; the parts that are used are the same
    return { uws, build: 'glibc-2.27', supportsTls: false, maxContentLength: 999_999_999 }
  } catch (error) {
    failures.push(
      `build for older systems (Node 20; glibc 2.27 or newer; no TLS): ${firstLine(error)}`,
    )
  }
  throw new Error(
    `no build of uWebSockets.js loads on ${process.platform} ${process.arch} with Node ${process.versions.node}:\n` +
      failures.map((line) => `  - ${line}\n`).join('') +
      'Use Node 20 on a system with glibc 2.27 or newer (Debian 12 for example), or Node 20, 22, 24 or 25 with glibc 2.38 or newer (Debian 13).',
  )
}

function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  const lines = text.split('\n').filter((line) => line.trim() !== '')
  return (
    lines.find((line) => line.includes('GLIBC') || line.includes('Cannot find')) ??
    lines[0] ??
    'unknown error'
  )
}
