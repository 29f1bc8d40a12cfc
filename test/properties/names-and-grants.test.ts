/** Ids, handles, file names, paths and signatures: what holds for any text, and after any change to a right one. */
import { deepEqual, equal, ok } from 'node:assert/strict'
import { basename, dirname, relative, sep } from 'node:path'

import * as fc from 'fast-check'
import t from 'tap'

import { FileLayout, UnsafePathError } from '../../src/shared/files/layout.ts'
import { sanitizeFilename } from '../../src/shared/files/names.ts'
import {
  mintArtifactId,
  mintSessionId,
  mintUploadId,
  ownerOf,
  parseArtifactId,
  parseSessionId,
  parseUploadId,
  type SessionId,
} from '../../src/shared/ids.ts'
import { UrlSigner } from '../../src/shared/signing.ts'
import { formatArtifactUri, parseItemUri } from '../../src/worker/adapters/item-uri.ts'
import { decideRange } from '../../src/worker/files/byte-range.ts'
import { contentDisposition } from '../../src/worker/files/download-endpoint.ts'
import { holds } from './holds.ts'

t.setTimeout(120_000)

const NOW = 1_800_000_000
const anyText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.string({ unit: 'grapheme', maxLength: 40 }),
  fc.string({
    unit: fc.constantFrom(
      ...Array.from('./\\ ~:%aB1_-\u0000\n\u202e'),
      '\ud800',
      '\u0308',
      '..',
      'ſ',
      'İ',
      'CON',
    ),
    maxLength: 40,
  }),
  fc.string({ unit: 'grapheme', minLength: 200, maxLength: 300 }),
  // Names that are cut in the middle of what no name may end in.
  fc
    .tuple(
      fc.nat(30),
      fc.string({ unit: fc.constantFrom('.', ' ', 'a', 'ä', '\u0308', '\u3000'), maxLength: 30 }),
    )
    .map(([length, end]) => 'x'.repeat(235 + length) + end),
)
const idText = fc.string({
  unit: fc.constantFrom(...Array.from('ABCXYZabcxyz0189_-')),
  minLength: 22,
  maxLength: 22,
})
const sessionText = idText.map((text) => `${text}0123456789`)
/** A place, and what to do there. */
const edit = fc.tuple(fc.nat(), fc.string({ unit: 'binary', maxLength: 2 }), fc.nat(2))

function edited(text: string, [place, insert, cut]: readonly [number, string, number]): string {
  const at = place % (text.length + 1)
  return text.slice(0, at) + insert + text.slice(at + cut)
}

t.test('an id of ours is one, and nothing that differs in length or alphabet is', async (t) => {
  const kinds = [
    [mintSessionId, parseSessionId, 32],
    [mintUploadId, parseUploadId, 22],
    [mintArtifactId, parseArtifactId, 22],
  ] as const
  for (const [mint, parse, length] of kinds) {
    holds(
      fc.property(edit, (change) => {
        const id: string = mint()
        equal(parse(id), id)
        const other = edited(id, change)
        const isId = other.length === length && !/[^A-Za-z0-9_-]/.test(other)
        equal(parse(other), isId ? other : undefined)
      }),
    )
    holds(fc.property(anyText, (text) => equal(parse(text), undefined)))
  }
  t.pass('for sessions, uploads and artifacts')
})

t.test('every id has one owner among any number of workers', async (t) => {
  holds(
    fc.property(anyText, fc.integer({ min: 1, max: 256 }), (id, workers) => {
      const owner = ownerOf(id, workers)
      ok(Number.isInteger(owner) && owner >= 0 && owner < workers)
      equal(ownerOf(id, workers), owner)
    }),
  )
  t.pass('also for what is no id')
})

t.test('an item URI says what was put into it, and no other text says more than ids', async (t) => {
  const scheme = fc.constantFrom('upload://', 'artifact://', 'My+App.x://')
  const name = anyText.map((raw) => sanitizeFilename(raw, 'file'))
  holds(
    fc.property(scheme, sessionText, idText, name, (scheme, sessionId, artifactId, filename) => {
      const uri = formatArtifactUri(scheme, { sessionId, artifactId, filename })
      deepEqual(parseItemUri(scheme, uri), { sessionId, itemId: artifactId, filename })
      deepEqual(parseItemUri(scheme.toUpperCase(), uri)?.filename, filename)
    }),
  )
  holds(
    fc.property(sessionText, idText, edit, edit, (sessionId, itemId, first, second) => {
      const handle = edited(edited(`upload://sessions/${sessionId}/${itemId}`, first), second)
      const parsed = parseItemUri('upload://', handle)
      if (parsed === undefined) return
      ok(!/[^A-Za-z0-9_-]/.test(parsed.sessionId + parsed.itemId))
      const head = `upload://sessions/${parsed.sessionId}/${parsed.itemId}`
      ok(handle.toLowerCase().startsWith(head.toLowerCase()))
    }),
    700,
  )
  t.pass('also after changes')
})

t.test('any name becomes one path component that is shown, fits and stays as it is', async (t) => {
  const layout = new FileLayout({ root: '/data', atomicWrites: true })
  const ref = {
    serverId: 'a',
    sessionId: mintSessionId(),
    kind: 'uploads',
    id: mintUploadId(),
  } as const
  holds(
    fc.property(anyText, (raw) => {
      const name = sanitizeFilename(raw, 'fallback')
      const path = layout.itemPath(ref, name)
      equal(basename(path), name)
      equal(dirname(path), layout.itemDir(ref))
      ok(Buffer.byteLength(name) <= 255 && !/\p{Cs}/u.test(name))
      ok(!/^[. ]|[. ]$|[<>:"|?*]|\p{Cc}|\p{Cf}/u.test(name), JSON.stringify(name))
      equal(sanitizeFilename(name, 'other'), name, 'cleaning again changes nothing')
    }),
    700,
  )
  t.pass('whatever it was')
})

t.test('no ids make a path outside the directory of sessions', async (t) => {
  const layout = new FileLayout({ root: '/data/x', atomicWrites: true })
  holds(
    fc.property(anyText, anyText, anyText, anyText, (serverId, session, id, filename) => {
      try {
        // What must be refused at run time whatever its type says.
        const ref = {
          serverId,
          sessionId: session as never,
          kind: 'artifacts',
          id: id as never,
        } as const
        const inside = relative(layout.sessionsDir, layout.itemPath(ref, filename)).split(sep)
        deepEqual(inside, [serverId, session, 'artifacts', id, filename])
      } catch (error) {
        ok(error instanceof UnsafePathError)
      }
    }),
    700,
  )
  t.pass('they are refused')
})

t.test('a name in Content-Disposition is plain text that gives the name back', async (t) => {
  holds(
    fc.property(anyText, (raw) => {
      const name = sanitizeFilename(raw, 'file')
      const header = contentDisposition(name)
      const [, plain = '"', encoded = ''] =
        /^attachment; filename="([\x20-\x7e]*)"; filename\*=UTF-8''([!#$&+\-.^_`|~0-9A-Za-z%]*)$/.exec(
          header,
        ) ?? []
      ok(!/["\\]/.test(plain), header)
      equal(decodeURIComponent(encoded), name)
    }),
  )
  t.pass('for any name')
})

t.test('whatever range is asked for, what is answered lies in the file', async (t) => {
  const number = fc.oneof(fc.nat(20).map(String), fc.bigInt().map(String), fc.constant(''))
  const range = fc.oneof(
    anyText,
    fc.tuple(number, number).map(([first, last]) => `bytes=${first}-${last}`),
  )
  holds(
    fc.property(
      range,
      fc.option(anyText, { nil: undefined }),
      fc.nat(12),
      (range, ifRange, sizeBytes) => {
        const decision = decideRange(range, ifRange, { etag: '"e"', mtimeMs: NOW, sizeBytes })
        if (typeof decision === 'string') return
        const { start, length } = decision
        ok(start >= 0 && length >= 1 && start + length <= sizeBytes, JSON.stringify(decision))
      },
    ),
    700,
  )
  t.pass('or the whole file, or nothing')
})

const signer = new UrlSigner({ secrets: ['new', 'old'] })
const ordinary = { noNullPrototype: true } as const
const uploadGrant = fc.record(
  {
    serverId: fc.constantFrom('files', 'a.b'),
    // As parsed ones are.
    sessionId: sessionText.map((text) => text as SessionId),
    expiresAtSeconds: fc.integer({ min: NOW, max: NOW + 1_000 }),
    nonce: idText,
  },
  ordinary,
)
const downloadGrant = fc.record(
  {
    serverId: fc.constantFrom('files', 'a.b'),
    sessionId: sessionText,
    artifactId: idText,
    filename: anyText.map((raw) => sanitizeFilename(raw, 'file')),
    expiresAtSeconds: fc.integer({ min: NOW, max: NOW + 1_000 }),
  },
  ordinary,
)

/** The text with one bit of one byte the other way, as it would arrive. */
function withBitFlipped(text: string, place: number, bit: number): string {
  const bytes = Buffer.from(text, 'utf8')
  const at = place % bytes.byteLength
  bytes[at] = (bytes[at] ?? 0) ^ (1 << bit)
  return bytes.toString('latin1')
}

t.test('one bit of an upload URL the other way, and it grants nothing', async (t) => {
  holds(
    fc.property(uploadGrant, fc.nat(), fc.nat(7), (grant, place, bit) => {
      const query = signer.signUpload(grant)
      deepEqual(signer.verifyUpload(grant.serverId, new URLSearchParams(query), NOW), {
        ok: true,
        grant,
      })
      const flipped = new URLSearchParams(withBitFlipped(query, place, bit))
      equal(signer.verifyUpload(grant.serverId, flipped, NOW).ok, false, String(flipped))
      const elsewhere = withBitFlipped(grant.serverId, place, bit)
      equal(signer.verifyUpload(elsewhere, new URLSearchParams(query), NOW).ok, false)
    }),
    1_000,
  )
  t.pass('in any place')
})

t.test('one bit of a download URL the other way, and it grants nothing', async (t) => {
  holds(
    fc.property(downloadGrant, fc.nat(), fc.nat(7), (grant, place, bit) => {
      const query = signer.signDownload(grant)
      const right = new URLSearchParams(query)
      equal(signer.verifyDownload(grant, right, NOW).ok, true)
      const flipped = new URLSearchParams(withBitFlipped(query, place, bit))
      equal(signer.verifyDownload(grant, flipped, NOW).ok, false, String(flipped))
      for (const field of ['serverId', 'sessionId', 'artifactId', 'filename'] as const) {
        const other = { ...grant, [field]: withBitFlipped(grant[field], place, bit) }
        equal(signer.verifyDownload(other, right, NOW).ok, false, field)
      }
    }),
    700,
  )
  t.pass('in any place of path and query')
})

t.test('a character moved from one signed field to the next is noticed', async (t) => {
  holds(
    fc.property(downloadGrant, fc.nat(2), (grant, index) => {
      const fields = ['serverId', 'sessionId', 'artifactId', 'filename'] as const
      const [left, right] = [fields[index] ?? 'serverId', fields[index + 1] ?? 'sessionId']
      const moved = {
        ...grant,
        [left]: grant[left].slice(0, -1),
        [right]: grant[left].slice(-1) + grant[right],
      }
      const query = new URLSearchParams(signer.signDownload(grant))
      equal(signer.verifyDownload(moved, query, NOW).ok, false)
    }),
  )
  t.pass('though all fields together read the same')
})

t.test(
  'a signature counts for the secrets in use and no other, and for its purpose alone',
  async (t) => {
    const secret = fc.string({ minLength: 1 }).filter((text) => text.trim() !== '')
    holds(
      fc.property(secret, uploadGrant, (other, grant) => {
        const signs = (secrets: readonly string[]): boolean =>
          signer.verifyUpload(
            grant.serverId,
            new URLSearchParams(new UrlSigner({ secrets }).signUpload(grant)),
            NOW,
          ).ok
        equal(signs([other]), ['new', 'old'].includes(other))
        ok(signs(['old', other]) && signs(['new']))
      }),
    )
    holds(
      fc.property(uploadGrant, (grant) => {
        const upload = new URLSearchParams(signer.signUpload(grant))
        const swapped = new URLSearchParams({
          mcp_artifact_exp: upload.get('mcp_upload_exp') ?? '',
          mcp_artifact_sig: upload.get('mcp_upload_sig') ?? '',
        })
        const target = { ...grant, artifactId: grant.nonce, filename: '' }
        equal(signer.verifyDownload(target, swapped, NOW).ok, false)
      }),
    )
    t.pass('uploads are no downloads')
  },
)
