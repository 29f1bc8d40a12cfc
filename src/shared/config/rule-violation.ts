/** What a rule about more than one field finds. */

/** A broken rule: the field to blame, and what is wrong. */
export interface RuleViolation {
  readonly path: readonly PropertyKey[]
  readonly message: string
}
