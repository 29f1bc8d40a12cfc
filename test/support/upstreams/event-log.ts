// An in-memory event store for the SDK's streamable HTTP transports, so that a client can come back with `Last-Event-ID`.
// Both SDK generations take the same shape; each uses its own JSON-RPC message type, hence the type parameter.

/** Keeps the events of one session in order and replays those of one stream that follow a given event. */
export class EventLog<Message> {
  readonly #events: {
    readonly id: string
    readonly streamId: string
    readonly message: Message
  }[] = []

  /** Stores one message of a stream and returns its event id, which is unique in this log. */
  storeEvent(streamId: string, message: Message): Promise<string> {
    const id = `${streamId}:${this.#events.length}`
    this.#events.push({ id, streamId, message })
    return Promise.resolve(id)
  }

  /** Names the stream that an event belongs to, or `undefined` if the event is unknown. */
  getStreamIdForEventId(eventId: string): Promise<string | undefined> {
    return Promise.resolve(this.#events.find((event) => event.id === eventId)?.streamId)
  }

  /** Sends, in order, the events of the same stream that come after `lastEventId`; returns that stream's id. Rejects on an unknown id. */
  async replayEventsAfter(
    lastEventId: string,
    { send }: { send: (eventId: string, message: Message) => Promise<void> },
  ): Promise<string> {
    const index = this.#events.findIndex((event) => event.id === lastEventId)
    const last = this.#events[index]
    if (last === undefined) throw new Error(`unknown event id ${lastEventId}`)
    const missed = this.#events.slice(index + 1).filter((event) => event.streamId === last.streamId)
    for (const event of missed) {
      // A stream is ordered: each event must be on its way before the next one.
      await send(event.id, event.message)
    }
    return last.streamId
  }
}
