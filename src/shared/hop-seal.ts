/**
 * What makes a request on the hop believable: who sent it, for which worker of which replica, when, in which order and with which body, signed by a key that
 * only replicas have. All of it stands in one header.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'

import { mac } from './signing.ts'

/** The header of a request that holds its seal. */
export const SEAL_HEADER = 'x-mcp-hop'
/** The header of an answer that shows that a replica gives it. */
export const PROOF_HEADER = 'x-mcp-hop-proof'
/** The header that says what an answer is; see `HopOutcome`. */
export const OUTCOME_HEADER = 'x-mcp-hop-outcome'

/** `answer`: what was asked for, as it came. `error`: an error of the catalogue. `gone`: the worker holds nothing. Without one the holder failed. */
export type HopOutcome = 'answer' | 'error' | 'gone'

/** The path that the hop is served at. */
export const HOP_PATH = '/hop'

/** The content of a seal. */
export interface HopSeal {
  readonly worker: number
  /** Names the sender, anew for each of its lives. */
  readonly from: string
  /** Grows with each request of the sender. */
  readonly sequence: number
  /** Unix milliseconds, by the sender's clock. */
  readonly sentAtMs: number
  /** Of the body; see `digestOf`. */
  readonly digest: string
}

const SEAL =
  /^(\d{1,4})\.([A-Za-z0-9_-]{16})\.(\d{1,15})\.(\d{1,15})\.([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{43})$/

/** Signs requests, and answers to them. The first secret signs; all verify, so that a secret can be replaced while replicas run. */
export class HopSigner {
  readonly #secrets: readonly [string, ...string[]]

  /** Throws a `RangeError` without a secret. */
  constructor(secrets: readonly string[]) {
    const [first, ...others] = secrets
    if (first === undefined) throw new RangeError('the hop needs a secret')
    this.#secrets = [first, ...others]
  }

  /** The value of `SEAL_HEADER` for a request to a replica. */
  seal(replicaId: string, seal: HopSeal): string {
    const signature = mac(this.#secrets[0], sealFields(replicaId, seal)).toString('base64url')
    const { worker, from, sequence, sentAtMs, digest } = seal
    return [worker, from, sequence, sentAtMs, digest, signature].join('.')
  }

  /** What a header says to this replica; undefined when no other replica has signed it for this one. */
  open(replicaId: string, header: string): HopSeal | undefined {
    const [, worker = '', from = '', sequence = '', sentAtMs = '', digest = '', signature = ''] =
      SEAL.exec(header) ?? []
    if (signature === '') return undefined
    const seal = {
      worker: Number(worker),
      from,
      sequence: Number(sequence),
      sentAtMs: Number(sentAtMs),
      digest,
    }
    return this.#isSigned(sealFields(replicaId, seal), signature) ? seal : undefined
  }

  /** The value of `PROOF_HEADER` for an answer to the request with this seal. */
  prove(header: string): string {
    return mac(this.#secrets[0], proofFields(header)).toString('base64url')
  }

  /** Whether whoever gave this proof has a key, and has seen the request. */
  isProof(header: string, proof: string): boolean {
    return this.#isSigned(proofFields(header), proof)
  }

  #isSigned(fields: readonly string[], signature: string): boolean {
    const given = Buffer.from(signature, 'base64url')
    let matches = false
    // Every secret is tried, so that the time taken does not tell which one matched.
    for (const secret of this.#secrets) {
      const expected = mac(secret, fields)
      if (expected.byteLength === given.byteLength && timingSafeEqual(expected, given)) {
        matches = true
      }
    }
    return matches
  }
}

/** The digest that a seal names, without a look at its signature. */
export function digestIn(header: string): string {
  return SEAL.exec(header)?.[5] ?? ''
}

/** SHA-256, in base64url. */
export function digestOf(body: Uint8Array | string): string {
  return createHash('sha256').update(body).digest('base64url')
}

/** A name for a sender of requests. */
export function mintSender(): string {
  return randomBytes(12).toString('base64url')
}

/** The purpose comes first, so that a signature for one never fits the other. */
function sealFields(replicaId: string, seal: HopSeal): readonly string[] {
  const { worker, from, sequence, sentAtMs, digest } = seal
  return ['mcp-hop-v1', replicaId, `${worker}`, from, `${sequence}`, `${sentAtMs}`, digest]
}

function proofFields(header: string): readonly string[] {
  return ['mcp-hop-answer-v1', header]
}
