/** Parts that requests of every route have. */
import type { Random } from './random.ts'
import type { Framing } from './request-draft.ts'

/** Headers of any request. */
export function commonHeaders(random: Random): [string, string][] {
  const headers: [string, string][] = [
    [
      'Host',
      random.chance(0.95)
        ? 'localhost'
        : random.pick(['', 'evil.example', '127.0.0.1:1', '[::1]', 'a b', 'localhost:99999']),
    ],
  ]
  if (random.chance(0.05))
    headers.push([
      'Origin',
      random.pick(['null', 'http://evil.example', 'http://localhost', '*', '']),
    ])
  if (random.chance(0.1))
    headers.push([
      random.pick([
        'Connection',
        'Expect',
        'Upgrade',
        'TE',
        'Forwarded',
        'X-Forwarded-Host',
        'X-Forwarded-Proto',
        'Cookie',
        'Authorization',
        'traceparent',
        'X-HTTP-Method-Override',
      ]),
      random.pick([
        'close',
        'keep-alive',
        '100-continue',
        'websocket',
        'upgrade',
        'trailers',
        'x',
        'DELETE',
        'https',
      ]),
    ])
  return headers
}

export function framingOf(random: Random): Framing {
  return random.chance(0.7) ? 'length' : 'chunked'
}

/** A media type that is not the usual one. */
export function oddType(random: Random): string {
  return random.pick([
    'text/plain',
    'application/json; charset=utf-16',
    'APPLICATION/JSON',
    'application/jsonx',
    '',
    'multipart/form-data',
    'application/x-www-form-urlencoded',
    'text/html',
    'a/b; c="',
    '*/*',
    'image/png',
    'x'.repeat(2_000),
  ])
}
