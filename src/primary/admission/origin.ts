/**
 * Which Host and Origin names a request may carry. A page that rebinds its own DNS name to this address sends that name in both, so only Host names that
 * nobody can register are accepted by default: loopback, IP literals, names without a dot, the listening host and `core.public_base_url`. An Origin says
 * where a page came from, and anybody can serve pages from an address: of those, only this machine's and the one that was asked are accepted.
 */
import { hostname } from 'node:os'

const LOOPBACK = /^(?:localhost|[a-z0-9_.-]+\.localhost|127(?:\.\d{1,3}){3}|\[::1\])$/
const IP_LITERAL = /^(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:.]+\])$/

/** The names that a deployment accepts. */
export class OriginPolicy {
  readonly #hosts: ReadonlySet<string>
  readonly #origins: ReadonlySet<string>
  // Host headers repeat: remember the verdict. Bounded, because a client chooses the key.
  readonly #verdicts = new Map<string, boolean>()

  constructor(core: {
    readonly host: string
    readonly publicBaseUrl: string | null
    readonly allowedHosts: readonly string[]
    readonly allowedOrigins: readonly string[]
    readonly cors: { readonly enabled: boolean; readonly allowedOrigins: readonly string[] }
  }) {
    const hosts = new Set([
      'localhost',
      hostname().toLowerCase(),
      core.host.toLowerCase(),
      ...core.allowedHosts.map((host) => nameOf(host.toLowerCase())),
    ])
    const ofCors = core.cors.enabled ? core.cors.allowedOrigins : []
    const origins = new Set(
      [...core.allowedOrigins, ...ofCors].map((origin) => origin.toLowerCase()),
    )
    if (core.publicBaseUrl !== null) {
      const url = new URL(core.publicBaseUrl)
      hosts.add(nameOf(url.host.toLowerCase()))
      origins.add(url.origin.toLowerCase())
    }
    this.#hosts = hosts
    this.#origins = origins
  }

  /** Whether a Host header (name, optional port) is acceptable. */
  acceptsHost(host: string): boolean {
    const known = this.#verdicts.get(host)
    if (known !== undefined) return known
    const name = nameOf(host.toLowerCase())
    const verdict =
      this.#hosts.has(name) ||
      IP_LITERAL.test(name) ||
      /^[a-z0-9_-]+$/.test(name) ||
      name.endsWith('.localhost')
    if (this.#verdicts.size >= 1_000) this.#verdicts.clear()
    this.#verdicts.set(host, verdict)
    return verdict
  }

  /** Whether an Origin header is acceptable for a request whose Host was accepted. */
  acceptsOrigin(origin: string, host: string): boolean {
    const lower = origin.toLowerCase()
    if (this.#origins.has(lower) || this.#origins.has('*')) return true
    if (!URL.canParse(lower)) return false
    const url = new URL(lower)
    if (url.protocol !== 'http:' && url.protocol !== 'https:') return false
    const name = nameOf(url.host)
    // What we serve ourselves (the upload page) has our own address, whatever port or scheme stands in front of us.
    return LOOPBACK.test(name) || this.#hosts.has(name) || url.host === host.toLowerCase()
  }
}

/** The name in `name:port`; brackets of an IPv6 literal stay. */
function nameOf(host: string): string {
  return host.replace(/:\d+$/, '')
}
