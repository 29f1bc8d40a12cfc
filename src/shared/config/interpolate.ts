/** Environment variables inside text: `${NAME}` and `${NAME:-default}`. */

/** The environment as Node gives it. */
export type Environment = Readonly<Record<string, string | undefined>>

/** The text with its variables filled in, and the variables that had neither a value nor a default. */
export interface Interpolation {
  readonly text: string
  readonly missing: readonly string[]
}

const TOKEN = /\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}/g

/** Fills in every variable of a text once (values are not looked at again); an empty variable counts as unset. */
export function interpolate(text: string, env: Environment): Interpolation {
  const missing: string[] = []
  const filled = text.replace(TOKEN, (_, name: string, fallback: string | undefined) => {
    // process.env has a prototype: ${toString} must not find a function there.
    const value = Object.hasOwn(env, name) ? env[name] : undefined
    if (value !== undefined && value !== '') return value
    if (fallback === undefined) missing.push(name)
    return fallback ?? ''
  })
  return { text: filled, missing }
}
