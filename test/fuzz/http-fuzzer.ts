/** The fuzzer: lanes that play cases one after the other, and a watch over what must be true all the time. */
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

import { openDescriptors, residentMib } from '../support/process-stats.ts'
import { within } from '../support/eventually.ts'
import { runCase } from './case-run.ts'
import { caseOf, type FuzzCase } from './fuzz-case.ts'
import { FuzzClient } from './fuzz-client.ts'
import type { FuzzTarget } from './fuzz-target.ts'
import { minimise } from './minimise.ts'
import type { FuzzWorld } from './fuzz-world.ts'

/** Fewer samples than this, ten seconds apart, say nothing of growth. */
const WARM_SAMPLES = 60
const MAX_GROWTH_MIB = 64
const MAX_GROWTH_DESCRIPTORS = 50

/** How much and what. */
export interface FuzzPlan {
  readonly seed: number
  readonly lanes: number
  /** Ends a lane, asked before each of its cases. */
  readonly isOver: (casesOfLane: number) => boolean
  /** Most of one processor that fuzzer and adapter may use together; 1 is all of it. */
  readonly cpuShare: number
}

/** Something that must not be. */
export interface Finding {
  readonly problem: string
  /** The seed of the case: run, lane, number. */
  readonly seed: readonly number[]
  /** What was sent, minimised, with names in braces for what differs from run to run. */
  readonly request: string
}

/** See the file comment. */
export class HttpFuzzer {
  readonly #target: FuzzTarget
  readonly #plan: FuzzPlan
  readonly findings: Finding[] = []
  readonly statuses = new Map<number, number>()
  /** Resident memory in MiB, ten seconds apart. */
  readonly memory: number[] = []
  readonly descriptors: number[] = []
  cases = 0
  wellBehaved = 0
  #isEnded = false
  /** Lanes wait while this is set. */
  #pause: Promise<void> | undefined
  #playing = 0
  #throttledUntilMs = 0

  constructor(target: FuzzTarget, plan: FuzzPlan) {
    this.#target = target
    this.#plan = plan
    void target.ended.then((code) => {
      if (!this.#isEnded) this.#note(`the process ended with ${code}`, [], '')
      this.#isEnded = true
    })
  }

  /** Resolves when all lanes are over and the last checks are made. */
  async run(): Promise<void> {
    const lanes = Array.from({ length: this.#plan.lanes }, (_, lane) => this.#lane(lane))
    const watch = this.#watch()
    await Promise.all(lanes)
    const isAlive = !this.#isEnded
    this.#isEnded = true
    await watch
    if (!isAlive) return
    await this.#checkQuiet()
    for (const problem of this.#growth()) this.#note(problem, [], '')
  }

  /** What the process holds may vary, but not grow: compared are the end and the time when all had been used once. */
  #growth(): string[] {
    const problems: string[] = []
    if (this.memory.length < WARM_SAMPLES) return problems
    const grownMib = growthOf(this.memory)
    if (grownMib > MAX_GROWTH_MIB) problems.push(`memory grew by ${grownMib} MiB`)
    const opened = growthOf(this.descriptors)
    if (opened > MAX_GROWTH_DESCRIPTORS) problems.push(`${opened} more descriptors are open`)
    return problems
  }

  async #lane(lane: number): Promise<void> {
    const client = new FuzzClient(this.#target)
    let world: FuzzWorld | undefined
    for (let number = 0; !this.#isEnded && !this.#plan.isOver(number); number++) {
      await this.#mayGo()
      if (number % 60 === 0) world = undefined
      else if (number % 8 === 0) world = await client.renewTicket()
      world ??= await this.#renew(client)
      if (world === undefined) continue
      const seed = [this.#plan.seed, lane, number]
      this.#playing++
      const fuzzCase = caseOf(seed, world)
      const outcome = await runCase(this.#target, fuzzCase).finally(() => this.#playing--)
      this.cases++
      for (const status of outcome.statuses)
        this.statuses.set(status, (this.statuses.get(status) ?? 0) + 1)
      const problem = outcome.problem ?? this.#target.logProblems()[0]
      if (problem !== undefined) await this.#investigate(problem, seed, fuzzCase, world)
    }
    await client.leave()
  }

  async #renew(client: FuzzClient): Promise<FuzzWorld | undefined> {
    await client.leave()
    return client.renew().catch(async (error: unknown) => {
      if (!this.#isEnded) this.#note(`a well-behaved client failed: ${String(error)}`, [], '')
      await delay(1_000)
      return undefined
    })
  }

  /** Alone with the adapter, makes the case smaller while it does the same. */
  async #investigate(
    problem: string,
    seed: readonly number[],
    fuzzCase: FuzzCase,
    world: FuzzWorld,
  ): Promise<void> {
    const kind = problem.slice(0, 40)
    const alike = this.findings.filter((finding) => finding.problem.startsWith(kind)).length
    let smallest = fuzzCase
    if (alike < 3 && !this.#isEnded) {
      await this.#alone(async () => {
        smallest = await minimise(fuzzCase, async (smaller) => {
          const outcome = await runCase(this.#target, smaller)
          const again = outcome.problem ?? this.#target.logProblems()[0]
          return again?.startsWith(kind) ?? false
        })
      })
    }
    this.#note(problem, seed, withNames(Buffer.concat(smallest.pieces).toString('latin1'), world))
  }

  /** Every two seconds: a client beside it, the log; every ten memory; every minute, with nothing in flight, the storage. */
  async #watch(): Promise<void> {
    const client = new FuzzClient(this.#target)
    for (let tick = 0; !this.#isEnded; tick++) {
      if (tick % 20 === 0) {
        await within('a well-behaved client is served', client.liveOn(), 20_000).then(
          () => this.wellBehaved++,
          (error: unknown) => {
            if (!this.#isEnded) this.#note(`a well-behaved client failed: ${String(error)}`, [], '')
          },
        )
      }
      for (const problem of this.#target.logProblems()) this.#note(problem, [], '')
      if (tick % 100 === 0 && !this.#isEnded) {
        this.memory.push(Math.round(residentMib(this.#target.pid)))
        this.descriptors.push(openDescriptors(this.#target.pid))
      }
      if (tick % 600 === 599) await this.#checkQuiet()
      this.#throttle()
      await delay(100)
    }
  }

  async #checkQuiet(): Promise<void> {
    await this.#alone(async () => {
      for (const problem of await this.#target.storageProblems()) this.#note(problem, [], '')
    })
    for (const problem of this.#target.logProblems()) this.#note(problem, [], '')
  }

  async #alone(work: () => Promise<void>): Promise<void> {
    while (this.#pause !== undefined) await this.#pause
    const alone = (async () => {
      while (this.#playing > 0) await delay(5)
      await work()
    })()
    this.#pause = alone.catch(() => {})
    try {
      await alone
    } finally {
      this.#pause = undefined
    }
  }

  async #mayGo(): Promise<void> {
    while (this.#pause !== undefined) await this.#pause
    const waitMs = this.#throttledUntilMs - performance.now()
    if (waitMs > 0) await delay(waitMs)
  }

  readonly #startedAtMs = performance.now()

  /** Whoever used more than the share waits until time has made it good. */
  #throttle(): void {
    const usedMs = processorMs(process.pid) + processorMs(this.#target.pid)
    const owedMs = usedMs / this.#plan.cpuShare
    this.#throttledUntilMs = Math.min(this.#startedAtMs + owedMs, performance.now() + 5_000)
  }

  #note(problem: string, seed: readonly number[], request: string): void {
    this.findings.push({ problem, seed, request })
    process.stderr.write(
      `FOUND ${JSON.stringify({ problem, seed, request: request.slice(0, 6_000) })}\n`,
    )
  }
}

/** Names in braces for what differs from run to run. */
function withNames(text: string, world: FuzzWorld): string {
  return text
    .replaceAll(world.uploadTarget, '{uploadTarget}')
    .replaceAll(world.downloadTarget, '{downloadTarget}')
    .replaceAll(world.handle, '{handle}')
    .replaceAll(world.artifactUri, '{artifactUri}')
    .replaceAll(world.sessions.files, '{session}')
    .replaceAll(world.sessions.hostile, '{hostileSession}')
    .replaceAll(world.token, '{token}')
}

/** Processor time that a process has used, in milliseconds. */
function processorMs(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
    // Fields 14 and 15 of the manual, in ticks of ten milliseconds.
    return (Number(fields[11]) + Number(fields[12])) * 10
  } catch {
    return 0
  }
}

/** The least of the end over the most of the time when everything had been used once. */
function growthOf(samples: readonly number[]): number {
  return Math.min(...samples.slice(-10)) - Math.max(...samples.slice(5, 30))
}
