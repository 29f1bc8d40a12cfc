/** What of V8 is set otherwise than it comes. */
import { setFlagsFromString } from 'node:v8'

/**
 * To be called before any thread is started: V8's flags are the whole process's.
 *
 * Off: to allocate in the old generation what a few collections found alive. What a request is made of looks so whenever many are under way, and dies
 * with it; one dead object of the old generation then keeps all of its request alive until a full collection, and every minor one copies it. See decision 37.
 */
export function setUpEngine(): void {
  setFlagsFromString('--no-allocation-site-pretenuring')
}
