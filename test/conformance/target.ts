// What a conformance leg is run against: nothing in between (the baseline), or a module that starts a proxy.

/** A running proxy in front of an upstream. */
export interface Target {
  /** MCP endpoint that leads to the upstream. */
  readonly url: string
  stop(): Promise<void>
}

/** Starts a target in front of the MCP endpoint `upstreamUrl`. */
export type StartTarget = (upstreamUrl: string) => Promise<Target>

/** The baseline: the upstream itself. */
export function startDirect(upstreamUrl: string): Target {
  return { url: upstreamUrl, stop: () => Promise.resolve() }
}

/** URL of the module whose `startTarget` starts the target: the adapter, or what `CONFORMANCE_TARGET` names. */
export const targetModule: string =
  process.env['CONFORMANCE_TARGET'] ?? new URL('./adapter-target.js', import.meta.url).href

/** Starts the target of a module in front of `upstreamUrl`. Rejects if the module has no `startTarget`. */
export async function startTargetOf(moduleUrl: string, upstreamUrl: string): Promise<Target> {
  const module: unknown = await import(moduleUrl)
  if (!hasStartTarget(module)) throw new Error(`${moduleUrl} exports no startTarget`)
  return module.startTarget(upstreamUrl)
}

function hasStartTarget(module: unknown): module is { startTarget: StartTarget } {
  return typeof module === 'object' && module !== null && 'startTarget' in module
}
