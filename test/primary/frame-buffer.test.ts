/** Pieces of a body on their way into frames. */
import { array, assert, constantFrom, integer, oneof, property } from 'fast-check'
import t from 'tap'

import { FrameBuffer } from '../../src/primary/listener/frame-buffer.ts'
import { TRANSFER_BYTES } from '../../src/shared/frames/channel.ts'

/** As the listener uses it: what there is leaves when the next piece does not fit, and at the end of each turn. */
function framesOf(turns: readonly (readonly Uint8Array[])[]): Uint8Array[] {
  const buffer = new FrameBuffer()
  const frames: Uint8Array[] = []
  const taken = (isFull: boolean): void => {
    const frame = buffer.take(isFull)
    // What is transferred is out of reach at once, with all that lies in the same buffer.
    const { byteLength } = frame
    const capacity = frame.buffer.byteLength
    const most = byteLength < TRANSFER_BYTES ? byteLength : 2 * byteLength
    if (capacity > most) throw new Error(`${byteLength} bytes in a buffer of ${capacity}`)
    frames.push(structuredClone(frame, { transfer: [frame.buffer as ArrayBuffer] }))
  }
  for (const pieces of turns) {
    for (const piece of pieces) {
      if (!buffer.hasRoom(piece.byteLength)) taken(true)
      buffer.append(piece)
    }
    if (buffer.length > 0) taken(false)
  }
  return frames
}

const sizes = oneof(integer({ min: 1, max: 70_000 }), constantFrom(65_524, 16_384, 1))

t.test('whatever the pieces and turns, the bytes leave once and in order', async (t) => {
  assert(
    property(array(array(sizes, { maxLength: 9 }), { maxLength: 40 }), (turns) => {
      let next = 0
      const pieces = turns.map((turn) =>
        turn.map((size) => Uint8Array.from({ length: size }, () => next++ % 251)),
      )
      const sent = Buffer.concat(pieces.flat())
      return Buffer.concat(framesOf(pieces)).equals(sent)
    }),
    { numRuns: 25 },
  )
  t.pass()
})

t.test('a fast body goes in few frames, a slow one in small buffers', async (t) => {
  const turn = Array.from({ length: 8 }, () => new Uint8Array(65_524))
  const fast = Array.from({ length: 20 }, () => turn)
  t.ok(framesOf(fast).length < 60, 'though it came in 160 pieces')
  const slow = Array.from({ length: 200 }, () => [new Uint8Array(TRANSFER_BYTES)])
  const last = framesOf([...fast, ...slow]).at(-1)
  t.equal(last?.byteLength, TRANSFER_BYTES)
})
