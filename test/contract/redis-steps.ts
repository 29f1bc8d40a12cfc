/** Connections to Redis on which something happens between the commands of an operation. */
import type { RedisClient } from '../../src/shared/state/redis/connection.ts'

/** A connection that does something before or after one of its commands. */
export interface SteppedClient {
  readonly client: RedisClient
  /** Whether there were so many commands. */
  readonly wasReached: () => boolean
}

/** Cuts the connection when this many commands have been answered. */
export function cutAfter(client: RedisClient, commands: number): SteppedClient {
  return stepped(
    client,
    async (send, number) => {
      const answer = await send()
      if (number === commands) client.disconnect()
      return answer
    },
    commands,
  )
}

/** Lets others act before the command with this number, from 1. When that moved the clock, the command is executed at the new time. */
export function overtakenBefore(
  client: RedisClient,
  command: number,
  { act, offsetMs }: { readonly act: () => Promise<unknown>; readonly offsetMs: () => number },
): SteppedClient {
  return stepped(
    client,
    async (send, number) => {
      if (number !== command) return send()
      await act()
      return send(offsetMs())
    },
    command,
  )
}

type Step = (send: (offsetMs?: number) => Promise<unknown>, number: number) => Promise<unknown>

/** Where the clock is among what is sent: command, script, number of keys and the key come before. */
const CLOCK_ARGUMENT = 4

function stepped(client: RedisClient, step: Step, wanted: number): SteppedClient {
  let commands = 0
  const wrap = (method: 'call' | 'callBuffer') => {
    const send = client[method].bind(client) as (...args: unknown[]) => Promise<unknown>
    return (...args: unknown[]): Promise<unknown> => {
      // A script that the server does not have yet is sent a second time: the same step.
      if (args[0] !== 'eval') commands++
      return step((offsetMs) => {
        if (offsetMs !== undefined) args[CLOCK_ARGUMENT] = String(offsetMs)
        return send(...args)
      }, commands)
    }
  }
  const overrides: { readonly [name: string]: unknown } = {
    call: wrap('call'),
    callBuffer: wrap('callBuffer'),
  }
  const proxy = new Proxy(client, {
    get(target, name) {
      const own = typeof name === 'string' ? overrides[name] : undefined
      return own ?? Reflect.get(target, name, target)
    },
  })
  return { client: proxy, wasReached: () => commands >= wanted }
}
