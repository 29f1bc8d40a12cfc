// What the everything server's instances share: one McpServer is built per session or per modern request, so that
// subscriptions, cancellations and change events must live outside of any of them.

import { randomBytes } from 'node:crypto'
import { createRequestStateCodec, type RequestStateCodec } from '@modelcontextprotocol/server'

/** How a call of the cancellable tool ended. */
export interface SlowCall {
  readonly key: string
  readonly outcome: 'running' | 'completed' | 'cancelled'
}

/** A change that is told to every listener that asked for it, in both eras. */
export type Change =
  | { readonly kind: 'tools' }
  | { readonly kind: 'prompts' }
  | { readonly kind: 'resources' }
  | { readonly kind: 'resource'; readonly uri: string }

/** State of one everything server, shared by its per-session and per-request instances. */
export class EverythingContext {
  /** Seals and verifies the `requestState` of multi-round-trip tools. */
  readonly requestState: RequestStateCodec<{ step: string }> = createRequestStateCodec({
    key: randomBytes(32),
  })
  readonly #slowCalls = new Map<string, SlowCall>()
  readonly #listeners = new Set<(change: Change) => void>()

  /** Records where a call of the cancellable tool is; the latest state of each key is kept. */
  recordSlowCall(call: SlowCall): void {
    this.#slowCalls.set(call.key, call)
  }

  /** Every call of the cancellable tool so far, oldest first. */
  slowCalls(): readonly SlowCall[] {
    return [...this.#slowCalls.values()]
  }

  /** Registers a listener for changes; returns the function that removes it. */
  onChange(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Tells all listeners about a change. */
  announce(change: Change): void {
    for (const listener of this.#listeners) listener(change)
  }
}
