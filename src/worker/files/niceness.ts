/** Priority of threads that carry file bytes: behind those that answer calls, when there is not enough processor for all. */
import { readlinkSync } from 'node:fs'
import { getPriority, setPriority } from 'node:os'
import { isMainThread } from 'node:worker_threads'

/** On the scale of nice(2). Where calls take all they can get, such a thread keeps a fifteenth of a processor, which hashes some tens of MB a second. */
const BULK_NICENESS = 12

/** Lowers the priority of the pool thread that calls it. It can't be raised again without privileges, so the thread is for such work only. */
export function yieldToCalls(): void {
  if (isMainThread) return
  try {
    // `<process>/task/<thread>`; Linux takes the number of a thread, too (setpriority(2)).
    const thread = Number(readlinkSync('/proc/thread-self').split('/').at(-1))
    if (thread > 0 && getPriority(thread) < BULK_NICENESS) setPriority(thread, BULK_NICENESS)
  } catch {
    // Without /proc all threads stay alike, which is slower for calls and nothing else.
  }
}
