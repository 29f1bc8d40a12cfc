/** Makes a case that fails smaller, as long as it fails the same way. */
import type { FuzzCase } from './fuzz-case.ts'

const MAX_TRIES = 120

/** Leaves out ever smaller pieces of the bytes. A case that is due an answer keeps its framing: only whole header lines go. */
export async function minimise(
  fuzzCase: FuzzCase,
  fails: (smaller: FuzzCase) => Promise<boolean>,
): Promise<FuzzCase> {
  let tries = 0
  const failsWith = async (bytes: Buffer): Promise<boolean> => {
    tries++
    return fails({ ...fuzzCase, pieces: [bytes] })
  }
  const whole = Buffer.concat(fuzzCase.pieces)
  if (!(await failsWith(whole))) return fuzzCase
  if (fuzzCase.isWhole) {
    const lines = await withoutLines(whole, failsWith, () => tries < MAX_TRIES)
    return { ...fuzzCase, pieces: [lines] }
  }
  let smallest = whole
  for (let size = whole.byteLength >> 1; size > 0; size >>= 1) {
    for (let at = 0; at < smallest.byteLength;) {
      if (tries >= MAX_TRIES) return { ...fuzzCase, pieces: [smallest] }
      const shorter = Buffer.concat([smallest.subarray(0, at), smallest.subarray(at + size)])
      if (await failsWith(shorter)) smallest = shorter
      else at += size
    }
  }
  return { ...fuzzCase, pieces: [smallest] }
}

async function withoutLines(
  whole: Buffer,
  fails: (bytes: Buffer) => Promise<boolean>,
  mayTry: () => boolean,
): Promise<Buffer> {
  const end = whole.indexOf('\r\n\r\n')
  const body = whole.subarray(end)
  const lines = whole.subarray(0, end).toString('latin1').split('\r\n')
  for (let at = lines.length - 1; at > 0 && mayTry(); at--) {
    if (/^(?:content-length|transfer-encoding)/i.test(lines[at] ?? '')) continue
    const without = Buffer.from(lines.toSpliced(at, 1).join('\r\n'), 'latin1')
    if (await fails(Buffer.concat([without, body]))) lines.splice(at, 1)
  }
  return Buffer.concat([Buffer.from(lines.join('\r\n'), 'latin1'), body])
}
