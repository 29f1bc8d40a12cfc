/** Starting in order and stopping in the reverse. */

/** Something that a composition root started and must end. */
interface Stoppable {
  readonly name: string
  stop(): Promise<void> | void
}

/** Collects what was started; `stop` ends it last-started first, once, whoever asks. A failing stop does not keep the rest from stopping. */
export class StopList {
  readonly #items: Stoppable[] = []
  #stopping: Promise<void> | undefined

  add(name: string, stop: () => Promise<void> | void): void {
    this.#items.push({ name, stop })
  }

  /** `onError` hears of each stop that failed. All callers share one outcome. */
  stop(onError: (name: string, error: unknown) => void): Promise<void> {
    this.#stopping ??= this.#run(onError)
    return this.#stopping
  }

  async #run(onError: (name: string, error: unknown) => void): Promise<void> {
    for (const item of this.#items.toReversed()) {
      try {
        // Order is the point: each part may use those started before it.
        await item.stop()
      } catch (error) {
        onError(item.name, error)
      }
    }
  }
}
