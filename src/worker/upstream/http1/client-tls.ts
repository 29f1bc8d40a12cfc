/** What connections with TLS are made with. Files that were renewed count for new connections; while they can't be used, what was read before does. */
import { statSync } from 'node:fs'
import { createSecureContext } from 'node:tls'
import type { SecureContext } from 'node:tls'

import type { UpstreamConfig } from '../../../shared/config/config.ts'
import { readClientTls } from '../../../shared/upstream-tls.ts'

/** Shortest time between two looks at the files, in milliseconds. */
const LOOK_INTERVAL_MS = 5_000

/** See the file comment. */
export class ClientTls {
  /** The name to check and to tell; null for that of the URL. */
  readonly serverName: string | null
  readonly #section: UpstreamConfig['tls']
  readonly #files: readonly string[]
  readonly #onUnusable: (error: unknown) => void
  readonly #intervalMs: number
  #context: SecureContext
  #ca: string | undefined
  #version: string
  #lookedAtMs: number

  /** Throws `ConfigError` when a file can't be used now. `onUnusable` hears of it later. */
  constructor(
    section: UpstreamConfig['tls'],
    onUnusable: (error: unknown) => void,
    intervalMs: number = LOOK_INTERVAL_MS,
  ) {
    this.serverName = section.serverName
    this.#section = section
    this.#onUnusable = onUnusable
    this.#intervalMs = intervalMs
    this.#files = [section.caFile, section.certFile, section.keyFile].filter(
      (file) => file !== null,
    )
    // Before reading: a change in between is then seen.
    this.#version = this.#versionOfFiles()
    this.#lookedAtMs = performance.now()
    this.#context = this.#read()
  }

  /** Another one once the files have changed. A few calls to the system for a new connection, every few seconds. */
  get context(): SecureContext {
    const nowMs = performance.now()
    if (this.#files.length === 0 || nowMs - this.#lookedAtMs < this.#intervalMs)
      return this.#context
    this.#lookedAtMs = nowMs
    const version = this.#versionOfFiles()
    if (version === this.#version) return this.#context
    // Told once for each change.
    this.#version = version
    try {
      this.#context = this.#read()
    } catch (error) {
      this.#onUnusable(error)
    }
    return this.#context
  }

  /** The authorities of `ca_file`, as they were read last. */
  get ca(): string | undefined {
    return this.#ca
  }

  #read(): SecureContext {
    const files = readClientTls(this.#section, 'upstream.tls')
    const context = createSecureContext(files)
    this.#ca = files.ca
    return context
  }

  #versionOfFiles(): string {
    return this.#files.map(versionOf).join()
  }
}

function versionOf(file: string): string {
  const stats = statSync(file, { throwIfNoEntry: false })
  return stats === undefined ? 'none' : `${stats.ino}:${stats.mtimeMs}:${stats.size}`
}
