/** Requests for files: uploads in all their forms, downloads with ranges and conditions; their URLs right or changed in one place. */
import { TOKEN_HEADER, type FuzzWorld } from './fuzz-world.ts'
import type { Random } from './random.ts'
import type { RequestDraft } from './request-draft.ts'
import { commonHeaders, framingOf, oddType } from './request-parts.ts'

/** A request to an upload URL. */
export function draftUpload(random: Random, world: FuzzWorld): RequestDraft {
  const target = random.chance(0.6) ? world.uploadTarget : mutateTarget(random, world.uploadTarget)
  const headers = commonHeaders(random)
  const method = random.pick(['POST', 'POST', 'PUT', 'PUT', 'GET', 'HEAD', 'DELETE'])
  const draft: RequestDraft = {
    method,
    target,
    version: 'HTTP/1.1',
    headers,
    body: Buffer.alloc(0),
    framing: framingOf(random),
  }
  if (method === 'PUT') {
    draft.body = random.bytes(random.pick([0, 1, 100, 5_000]))
    if (random.chance(0.3)) headers.push(['Content-Type', oddType(random)])
    if (random.chance(0.3))
      headers.push(['Content-Disposition', `attachment; filename="${headerText(random, 20)}"`])
    if (random.chance(0.2))
      headers.push([
        'Content-Digest',
        random.pick(['sha-256=:AAAA:', 'sha-256=::', 'md5=:x:', `sha-256=:${'A'.repeat(43)}=:`]),
      ])
    if (random.chance(0.1))
      headers.push(['Content-Encoding', random.pick(['gzip', 'identity', 'br'])])
  } else if (method === 'POST') multipart(random, draft)
  else draft.framing = 'none'
  return draft
}

function multipart(random: Random, draft: RequestDraft): void {
  const boundary = random.pick(['b', 'x'.repeat(70), '----WebKitFormBoundaryA', "'()+_,-./:=? x"])
  const said = random.chance(0.85)
    ? boundary
    : random.pick(['', 'y', boundary.slice(1), 'x'.repeat(300)])
  draft.headers.push([
    'Content-Type',
    `multipart/form-data; boundary=${random.chance(0.3) ? `"${said}"` : said}`,
  ])
  const parts = Array.from({ length: random.pick([0, 1, 1, 1, 2, 5, 40]) }, () =>
    part(random, boundary),
  )
  const end = random.chance(0.85)
    ? `--${boundary}--\r\n`
    : random.pick(['', `--${boundary}`, `--${boundary}-`])
  draft.body = Buffer.from(parts.join('') + end, 'latin1')
}

function part(random: Random, boundary: string): string {
  const name = random.chance(0.8)
    ? 'file'
    : random.pick(['', 'sha256', 'files', 'file"', '__proto__'])
  const filename = random.chance(0.7) ? 'a.txt' : headerText(random, 30)
  const end = random.chance(0.9) ? '\r\n' : random.pick(['\n', '\r', ''])
  const type = random.chance(0.5) ? `Content-Type: ${oddType(random)}${end}` : ''
  const disposition = `Content-Disposition: form-data; name="${name}"${random.chance(0.85) ? `; filename="${filename}"` : ''}${end}`
  const content = random.bytes(random.pick([0, 1, 50, 1_000])).toString('latin1')
  return `--${boundary}\r\n${disposition}${type}${end}${content}\r\n`
}

/** A request to a download URL. */
export function draftDownload(random: Random, world: FuzzWorld): RequestDraft {
  const headers = commonHeaders(random)
  const isBare = random.chance(0.3)
  const whole = isBare ? (world.downloadTarget.split('?')[0] ?? '') : world.downloadTarget
  const target = random.chance(0.5) ? whole : mutateTarget(random, whole)
  if (isBare) {
    headers.push(['Mcp-Session-Id', world.sessions.files])
    if (random.chance(0.7)) headers.push([TOKEN_HEADER, world.token])
  }
  if (random.chance(0.5)) headers.push(['Range', range(random)])
  if (random.chance(0.2))
    headers.push([
      random.pick(['If-None-Match', 'If-Range', 'If-Modified-Since']),
      random.pick(['*', '"x"', 'W/"x"', '""', 'Thu, 01 Jan 1970 00:00:00 GMT', 'x'.repeat(500)]),
    ])
  return {
    method: random.pick(['GET', 'GET', 'GET', 'HEAD', 'POST']),
    target,
    version: 'HTTP/1.1',
    headers,
    body: Buffer.alloc(0),
    framing: 'none',
  }
}

function range(random: Random): string {
  const number = (): string =>
    random.pick(['', '0', '1', '5', '99999', '-1', '18446744073709551616', 'x', ' 1'])
  const one = (): string => `${number()}-${number()}`
  return `${random.chance(0.9) ? 'bytes' : random.text(3).replace(/[\r\n]/g, '')}=${Array.from({ length: random.pick([1, 1, 1, 2, 200]) }, one).join(',')}`.replace(
    /[^\x20-\x7e]/g,
    '',
  )
}

/** Changes one place of a path with its query. */
function mutateTarget(random: Random, target: string): string {
  const at = random.below(target.length)
  switch (random.below(6)) {
    case 0: {
      const digits = '0123456789abcdefABCDEF_-'
      return target.slice(0, at) + digits.charAt(random.below(digits.length)) + target.slice(at + 1)
    }
    case 1:
      return target.slice(0, at) + target.slice(at + 1 + random.below(5))
    case 2:
      return (
        target.slice(0, at) +
        random.pick([
          '/',
          '..',
          '%2e%2e%2f',
          '%00',
          '%',
          '%zz',
          '%c0%ae',
          '&',
          '=',
          '?',
          '#',
          ';',
          '+',
          '\\',
          '%5c',
          'é',
        ]) +
        target.slice(at)
      )
    case 3: {
      const [path = '', query = ''] = target.split('?')
      const parameters = query.split('&')
      const twice = random.pick(parameters)
      return `${path}?${[...parameters, twice].join('&')}`
    }
    case 4: {
      const [path = '', query = ''] = target.split('?')
      const parameters = query.split('&')
      const gone = random.below(parameters.length)
      return `${path}?${parameters.filter((_, index) => index !== gone).join('&')}`
    }
    default:
      return (
        target.slice(0, at) +
        `%${(target.codePointAt(at) ?? 0).toString(16)}` +
        target.slice(at + 1)
      )
  }
}

/** Text that stays inside its header line, UTF-8 as bytes. */
function headerText(random: Random, maxLength: number): string {
  // oxlint-disable-next-line no-control-regex -- line ends and NUL would end the header, which is another mutation
  return Buffer.from(random.text(maxLength).replace(/[\u0000\r\n"]/g, '_'), 'utf8').toString(
    'latin1',
  )
}
