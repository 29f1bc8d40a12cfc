/** The sandbox threads of one worker. They come with the first script and go when there was none for a while. */
import { SandboxLane } from './sandbox-lane.ts'
import type { ScriptLimits, ScriptOutcome } from './sandbox-protocol.ts'

/** Scripts that may wait, for each that may run. */
const WAITING_PER_LANE = 4
/** A thread is replaced after so many scripts. */
const RUNS_PER_LANE = 500
const IDLE_MS = 60_000

/** A script to run. */
export interface ScriptOrder {
  readonly code: string
  readonly limits: ScriptLimits
  /** From the start of the script to its end, in milliseconds. */
  readonly timeoutMs: number
  /** Id of the server whose tools it calls. */
  readonly server: string
  /** Whose it is; null when it is nobody's, who is not limited. */
  readonly owner: string | null
  readonly onCall: (call: number, tool: string, argsJson: string) => void
}

/** A script that runs or waits. */
export interface RunningScript {
  /** Never rejects. */
  readonly outcome: Promise<ScriptOutcome>
  /** Settles a tool call of it; `json` is the text of a `CallAnswer`. */
  answer(call: number, json: string): void
  /** Ends it at once. */
  kill(why: string): void
}

/** See the file comment. One per worker. */
export class SandboxPool {
  readonly #maxLanes: number
  readonly #maxPerOwner: number
  /** What one server's scripts may have of the threads: calls that hang on its upstream must not keep those of another from running. */
  readonly #maxPerServer: number
  readonly #idle: SandboxLane[] = []
  readonly #lanes = new Set<SandboxLane>()
  readonly #waiting: Running[] = []
  readonly #byOwner = new Map<string, number>()
  /** Scripts that run, by server. */
  readonly #byServer = new Map<string, number>()
  #busy = 0
  #idleTimer: NodeJS.Timeout | undefined
  #isClosed = false

  /** `servers`: how many share it. */
  constructor(
    limits: { readonly maxScripts: number; readonly maxScriptsPerSession: number },
    servers = 1,
  ) {
    this.#maxLanes = limits.maxScripts
    this.#maxPerOwner = limits.maxScriptsPerSession
    this.#maxPerServer = servers > 1 ? Math.max(1, limits.maxScripts - 1) : limits.maxScripts
  }

  /** Threads that are there. */
  get threads(): number {
    return this.#lanes.size
  }

  /** Runs a script, or says why not. */
  start(order: ScriptOrder): RunningScript | string {
    const { owner, server } = order
    const own = owner === null ? 0 : (this.#byOwner.get(owner) ?? 0)
    if (this.#isClosed) return 'this replica is stopping; try again'
    if (own >= this.#maxPerOwner) {
      return `this session has core.code_mode.max_scripts_per_session (${this.#maxPerOwner}) scripts under way; wait for one to end`
    }
    const runsAtOnce = this.#hasRoomFor(server)
    const ahead = this.#waiting.filter((one) => one.order.server === server).length
    if (!runsAtOnce && ahead >= this.#maxPerServer * WAITING_PER_LANE)
      return 'too many scripts are under way; try again later'
    if (owner !== null) this.#byOwner.set(owner, own + 1)
    const running = new Running(order, () => this.#forget(running))
    if (runsAtOnce) this.#run(running)
    else this.#waiting.push(running)
    return running
  }

  /** Kills what runs and ends all threads. */
  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#idleTimer)
    for (const running of this.#waiting.splice(0)) running.kill('this replica is stopping')
    await Promise.all([...this.#lanes].map((lane) => lane.kill('this replica is stopping')))
  }

  #hasRoomFor(server: string): boolean {
    const own = this.#byServer.get(server) ?? 0
    return this.#busy < this.#maxLanes && own < this.#maxPerServer
  }

  #run(running: Running): void {
    const { server } = running.order
    this.#busy++
    this.#byServer.set(server, (this.#byServer.get(server) ?? 0) + 1)
    const lane = this.#idle.pop() ?? this.#open()
    running.begin(lane, () => {
      this.#busy--
      this.#byServer.set(server, (this.#byServer.get(server) ?? 1) - 1)
      this.#rest(lane)
      this.#next()
    })
  }

  #next(): void {
    for (;;) {
      const index = this.#waiting.findIndex(({ order }) => this.#hasRoomFor(order.server))
      const [next] = index === -1 ? [] : this.#waiting.splice(index, 1)
      if (next === undefined) return
      this.#run(next)
    }
  }

  #open(): SandboxLane {
    const lane = new SandboxLane()
    this.#lanes.add(lane)
    void lane.ended.then(() => {
      this.#lanes.delete(lane)
      const index = this.#idle.indexOf(lane)
      if (index !== -1) this.#idle.splice(index, 1)
    })
    return lane
  }

  /** What to do with a lane whose script is over. */
  #rest(lane: SandboxLane): void {
    if (lane.isOver) return
    if (lane.runs >= RUNS_PER_LANE || this.#isClosed) {
      lane.retire()
      return
    }
    this.#idle.push(lane)
    clearTimeout(this.#idleTimer)
    this.#idleTimer = setTimeout(() => {
      for (const one of this.#idle.splice(0)) one.retire()
    }, IDLE_MS)
    this.#idleTimer.unref()
  }

  /** A script is over, whether or not it ever ran. */
  #forget(running: Running): void {
    const { owner } = running.order
    if (owner !== null) {
      const left = (this.#byOwner.get(owner) ?? 1) - 1
      if (left === 0) this.#byOwner.delete(owner)
      else this.#byOwner.set(owner, left)
    }
    const index = this.#waiting.indexOf(running)
    if (index !== -1) this.#waiting.splice(index, 1)
  }
}

/** One script from the order to its outcome. */
class Running implements RunningScript {
  readonly order: ScriptOrder
  readonly outcome: Promise<ScriptOutcome>
  #lane: SandboxLane | undefined
  #settle: (outcome: ScriptOutcome) => void = () => {}
  readonly #timer: NodeJS.Timeout

  /** Waiting counts: the client waits, too. */
  constructor(order: ScriptOrder, onOver: () => void) {
    this.order = order
    this.outcome = new Promise((resolve) => {
      this.#settle = (outcome) => {
        clearTimeout(this.#timer)
        onOver()
        resolve(outcome)
      }
    })
    const seconds = order.timeoutMs / 1_000
    this.#timer = setTimeout(() => {
      this.kill(`the script took more than ${seconds} s (core.code_mode.timeout_seconds)`)
    }, order.timeoutMs)
  }

  begin(lane: SandboxLane, onEnd: () => void): void {
    const { code, limits, onCall } = this.order
    this.#lane = lane
    lane.run(code, {
      limits,
      onCall,
      onDone: (outcome) => {
        this.#lane = undefined
        this.#settle(outcome)
        onEnd()
      },
    })
  }

  answer(call: number, json: string): void {
    this.#lane?.answer(call, json)
  }

  kill(why: string): void {
    if (this.#lane !== undefined) void this.#lane.kill(why)
    else this.#settle({ kind: 'error', text: `Error: ${why}`, printed: { text: '', isCut: false } })
  }
}
