// A program of a cluster: started again whenever it ends by itself, as whatever runs a cluster in earnest would do.

import { setTimeout as delay } from 'node:timers/promises'

import { say } from './setup.mjs'

/** So that what its loss does to the rest can be seen. */
const RESTART_DELAY_MS = 2_000

/** See the file comment. */
export class Member {
  #start
  #service
  #running = Promise.resolve()
  #stop = new AbortController()

  /** `start(signal)` resolves with a running service (services.mjs), on the same port each time; it gives up when the signal is aborted. */
  constructor(name, start) {
    this.name = name
    this.#start = start
  }

  /** Resolves when it runs. Call it once. */
  async start(signal) {
    const either = AbortSignal.any([signal, this.#stop.signal])
    const first = this.#begin(either)
    this.#running = first.then(() => this.#watch(either))
    // Whoever waits for `failed` hears of it; nobody has to.
    this.#running.catch(() => undefined)
    await first
  }

  get pid() {
    return this.#service?.pid
  }

  /** Rejects when it could not be started; resolves when it was ended for good. */
  get failed() {
    return this.#running
  }

  /** Ends it for good. Harmless when it never started. */
  async stop() {
    this.#stop.abort()
    await this.#service?.stop()
    // A start that was under way has seen the signal, or made a service after all.
    await this.#running.catch(() => undefined)
    await this.#service?.stop()
  }

  async #begin(signal) {
    this.#service = await this.#start(signal)
  }

  async #watch(signal) {
    while (true) {
      // oxlint-disable no-await-in-loop -- one life after the other
      const how = await this.#service.exited
      if (signal.aborted) return
      say(`${this.name} ${how}; it is started again.`)
      await delay(RESTART_DELAY_MS, undefined, { signal }).catch(() => undefined)
      if (signal.aborted) return
      await this.#begin(signal)
      // oxlint-enable no-await-in-loop
      say(`${this.name} runs again (pid ${this.pid}).`)
    }
  }
}
