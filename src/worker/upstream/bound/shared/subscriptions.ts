/** Which sessions of a shared connection subscribed to which resource: the server knows of one subscriber only. */
import type { SharedMember } from './shared-member.ts'

/** See the file comment. */
export class Subscriptions {
  readonly #byUri = new Map<string, Set<SharedMember>>()

  add(uri: string, member: SharedMember): void {
    const members = this.#byUri.get(uri) ?? new Set()
    this.#byUri.set(uri, members.add(member))
  }

  /** Answers whether nobody subscribes to it any more. */
  remove(uri: string, member: SharedMember): boolean {
    const members = this.#byUri.get(uri)
    members?.delete(member)
    if (members !== undefined && members.size > 0) return false
    this.#byUri.delete(uri)
    return true
  }

  /** The session is over. */
  leave(member: SharedMember): void {
    for (const uri of this.#byUri.keys()) this.remove(uri, member)
  }

  of(uri: unknown): Iterable<SharedMember> {
    return (typeof uri === 'string' ? this.#byUri.get(uri) : undefined) ?? []
  }
}
