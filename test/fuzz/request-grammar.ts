/** Requests of every route as clients send them, with what a client can choose chosen at random. */
import { draftDownload, draftUpload } from './file-requests.ts'
import { TOKEN_HEADER, type FuzzWorld } from './fuzz-world.ts'
import { fuzzBody, type BodyContext } from './json-fuzz.ts'
import type { Random } from './random.ts'
import type { Framing, RequestDraft } from './request-draft.ts'
import { commonHeaders, framingOf, oddType } from './request-parts.ts'

/** A request of a random route. */
export function draftRequest(random: Random, world: FuzzWorld): RequestDraft {
  const kind = random.below(20)
  if (kind < 10) return mcpPost(random, world)
  if (kind < 12) return mcpOther(random, world)
  if (kind < 15) return draftUpload(random, world)
  if (kind < 18) return draftDownload(random, world)
  return health(random)
}

function mcpPost(random: Random, world: FuzzWorld): RequestDraft {
  const server = random.chance(0.5) ? 'files' : 'hostile'
  const context: BodyContext = {
    session: world.sessions[server],
    handle: world.handle,
    artifactUri: world.artifactUri,
    isHostile: server === 'hostile',
  }
  const body = fuzzBody(random, context)
  const headers = mcpHeaders(random, world, server)
  headers.push(['Content-Type', random.chance(0.93) ? 'application/json' : oddType(random)])
  if (random.chance(0.15)) headers.push(...eraHeaders(random, body))
  return {
    method: 'POST',
    target: mcpTarget(random, server),
    version: 'HTTP/1.1',
    headers,
    body,
    framing: framingOf(random),
  }
}

function mcpOther(random: Random, world: FuzzWorld): RequestDraft {
  const server = random.chance(0.5) ? 'files' : 'hostile'
  const headers = mcpHeaders(random, world, server)
  if (random.chance(0.2))
    headers.push(['Last-Event-ID', random.pick(['1', 'x'.repeat(9_000), '-', '%00', '0-0'])])
  const body = random.chance(0.85) ? Buffer.alloc(0) : random.bytes(random.below(100))
  return {
    method: random.pick([
      'GET',
      'GET',
      'GET',
      'DELETE',
      'OPTIONS',
      'PUT',
      'HEAD',
      'PATCH',
      'CONNECT',
      'get',
      'BREW',
    ]),
    target: mcpTarget(random, server),
    version: 'HTTP/1.1',
    headers,
    body,
    framing:
      body.byteLength === 0 ? random.pick<Framing>(['none', 'none', 'length']) : framingOf(random),
  }
}

function mcpHeaders(
  random: Random,
  world: FuzzWorld,
  server: 'files' | 'hostile',
): [string, string][] {
  const headers = commonHeaders(random)
  if (random.chance(0.95)) headers.push([TOKEN_HEADER, world.token])
  else if (random.chance(0.5)) headers.push([TOKEN_HEADER, world.token.slice(0, -1)])
  headers.push([
    'Accept',
    random.chance(0.9)
      ? 'application/json, text/event-stream'
      : random.pick(['*/*', 'text/html', '', 'application/json', 'text/event-stream']),
  ])
  if (random.chance(0.85)) {
    const id = random.chance(0.93)
      ? world.sessions[server]
      : random.pick([
          world.sessions.hostile,
          world.sessions.files,
          'A'.repeat(32),
          '',
          '../..',
          'x'.repeat(3_000),
        ])
    headers.push(['Mcp-Session-Id', id])
  }
  if (random.chance(0.7)) {
    headers.push([
      'MCP-Protocol-Version',
      random.pick(['2025-06-18', '2025-11-25', '2025-03-26', '2026-07-28', '1', '', '9999-12-31']),
    ])
  }
  return headers
}

/** The headers of the era without sessions, right ones and wrong ones. */
function eraHeaders(random: Random, body: Buffer): [string, string][] {
  const method = /"method":"([\w/]*)"/.exec(body.toString('latin1'))?.[1] ?? 'ping'
  const name = /"name":"(\w*)"/.exec(body.toString('latin1'))?.[1] ?? 'echo'
  return [
    [
      'Mcp-Method',
      random.chance(0.7) ? method : random.pick(['', 'x', '=?base64?cGluZw==?=', '=?base64?!?=']),
    ],
    ['Mcp-Name', random.chance(0.7) ? name : random.pick(['', 'y', '=?base64?/w==?='])],
  ]
}

function health(random: Random): RequestDraft {
  const path = random.pick([
    '/livez',
    '/readyz',
    '/healthz',
    '/',
    '/metrics',
    '/healthz/',
    '//healthz',
    '/*',
    '/%68ealthz',
    'http://localhost/healthz',
    '/../healthz',
    '/healthz?x=1',
    `/${'a'.repeat(3_000)}`,
  ])
  return {
    method: random.pick(['GET', 'GET', 'HEAD', 'POST', 'OPTIONS']),
    target: path,
    version: 'HTTP/1.1',
    headers: commonHeaders(random),
    body: Buffer.alloc(0),
    framing: random.pick<Framing>(['none', 'length']),
  }
}

function mcpTarget(random: Random, server: 'files' | 'hostile'): string {
  const path = `/mcp/${server}`
  return random.chance(0.95)
    ? path
    : random.pick([
        `${path}/`,
        `${path}?x=1`,
        `${path}#x`,
        `http://localhost${path}`,
        `/mcp%2f${server}`,
        `${path}//`,
        '/mcp/none',
        '/mcp',
      ])
}
