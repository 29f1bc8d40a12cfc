/** One case of the fuzzer: the bytes of a connection, how they are cut, and what may be expected of the answer. */
import { Random } from './random.ts'
import { bytesOf } from './request-draft.ts'
import { draftRequest } from './request-grammar.ts'
import type { FuzzWorld } from './fuzz-world.ts'
import { misframe, mutateBytes, mutateHeaders, mutateRequestLine } from './request-mutations.ts'

/** See the file comment. */
export interface FuzzCase {
  /** What is written, piece by piece. */
  readonly pieces: readonly Buffer[]
  /** Whether everybody agrees where its one request ends, so that an answer, or the end of the connection, is due. */
  readonly isWhole: boolean
  /** What the client does after the last byte. */
  readonly ending: 'wait' | 'destroy'
}

/** The case that a seed stands for. `world` fills in what exists in this run; it decides nothing else. */
export function caseOf(seed: readonly (number | string)[], world: FuzzWorld): FuzzCase {
  const random = new Random(...seed)
  const { bytes, isWhole } = requestBytes(random, world)
  return {
    pieces: cut(random, bytes),
    isWhole,
    ending: random.chance(0.06) ? 'destroy' : 'wait',
  }
}

function requestBytes(
  random: Random,
  world: FuzzWorld,
): { readonly bytes: Buffer; readonly isWhole: boolean } {
  const draft = draftRequest(random, world)
  switch (random.below(10)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return { bytes: bytesOf(draft, random), isWhole: true }
    case 4:
    case 5: {
      const isWhole = mutateHeaders(random, draft)
      return { bytes: bytesOf(draft, random), isWhole }
    }
    case 6:
      mutateRequestLine(random, draft)
      return { bytes: bytesOf(draft, random), isWhole: false }
    case 7:
      return { bytes: misframe(random, draft), isWhole: false }
    case 8: {
      const more = Array.from({ length: random.between(1, 4) }, () =>
        bytesOf(draftRequest(random, world), random),
      )
      return { bytes: Buffer.concat([bytesOf(draft, random), ...more]), isWhole: false }
    }
    default: {
      const other = bytesOf(draftRequest(random, world), random)
      return { bytes: mutateBytes(random, bytesOf(draft, random), other), isWhole: false }
    }
  }
}

function cut(random: Random, bytes: Buffer): Buffer[] {
  if (random.chance(0.7)) return [bytes]
  const places = Array.from({ length: random.between(1, 5) }, () =>
    random.below(bytes.byteLength + 1),
  ).toSorted((a, b) => a - b)
  return [0, ...places].map((from, index) =>
    bytes.subarray(from, places[index] ?? bytes.byteLength),
  )
}
