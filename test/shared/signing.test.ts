/** What signed URLs promise. */
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { mintSessionId } from '../../src/shared/ids.ts'
import {
  hasDownloadSignature,
  loadOrCreateSecrets,
  mintNonce,
  UrlSigner,
} from '../../src/shared/signing.ts'

const NOW = 1_800_000_000
const sessionId = mintSessionId()
const upload = { serverId: 'files', sessionId, expiresAtSeconds: NOW + 60, nonce: mintNonce() }
const artifact = { serverId: 'files', sessionId, artifactId: 'A'.repeat(22), filename: 'ö 1.pdf' }
const download = { ...artifact, expiresAtSeconds: NOW + 60 }

/** The query with one parameter changed by `edit`. */
function edited(query: string, edit: (parameters: URLSearchParams) => void): URLSearchParams {
  const parameters = new URLSearchParams(query)
  edit(parameters)
  return parameters
}

t.test('an upload URL grants what it was signed for, until the second it expires', (t) => {
  const signer = new UrlSigner({ secrets: ['one'] })
  const query = new URLSearchParams(signer.signUpload(upload))
  t.same(signer.verifyUpload('files', query, NOW), { ok: true, grant: upload })
  t.ok(signer.verifyUpload('files', query, NOW + 60).ok)
  t.same(signer.verifyUpload('files', query, NOW + 61), { ok: false, reason: 'expired' })
  t.end()
})

t.test('an upload URL fits no other server, session, expiry or nonce', (t) => {
  const signer = new UrlSigner({ secrets: ['one'] })
  const query = signer.signUpload(upload)
  const refused = { ok: false, reason: 'bad_signature' }
  t.same(signer.verifyUpload('other', new URLSearchParams(query), NOW), refused)
  const changes: readonly [name: string, value: string][] = [
    ['mcp_upload_session', mintSessionId()],
    ['mcp_upload_exp', String(NOW + 6000)],
    ['mcp_upload_nonce', mintNonce()],
    ['mcp_upload_sig', '0'.repeat(64)],
    ['mcp_upload_sig', 'é'.repeat(64)],
    ['mcp_upload_sig', 'zz'],
    ['mcp_upload_sig', ''],
  ]
  for (const [name, value] of changes) {
    const changed = edited(query, (parameters) => parameters.set(name, value))
    t.same(signer.verifyUpload('files', changed, NOW), refused, `${name}=${value}`)
  }
  t.end()
})

t.test('a forged URL is not told whether it has expired', (t) => {
  const forged = new UrlSigner({ secrets: ['theirs'] }).signUpload(upload)
  const signer = new UrlSigner({ secrets: ['ours'] })
  const verdict = signer.verifyUpload('files', new URLSearchParams(forged), NOW + 1000)
  t.same(verdict, { ok: false, reason: 'bad_signature' })
  t.end()
})

t.test('missing, doubled and unreadable parameters are malformed', (t) => {
  const signer = new UrlSigner({ secrets: ['one'] })
  const query = signer.signUpload(upload)
  const malformed = { ok: false, reason: 'malformed' }
  for (const name of new URLSearchParams(query).keys()) {
    const without = edited(query, (parameters) => parameters.delete(name))
    t.same(signer.verifyUpload('files', without, NOW), malformed, `without ${name}`)
    const doubled = new URLSearchParams(`${query}&${name}=${without.get(name) ?? 'x'}`)
    t.same(signer.verifyUpload('files', doubled, NOW), malformed, `two of ${name}`)
  }
  for (const [name, value] of [
    ['mcp_upload_exp', '1e9'],
    ['mcp_upload_exp', '-1'],
    ['mcp_upload_exp', '9'.repeat(20)],
    ['mcp_upload_session', '../etc'],
    ['mcp_upload_nonce', 'a b'],
  ] as const) {
    const changed = edited(query, (parameters) => parameters.set(name, value))
    t.same(signer.verifyUpload('files', changed, NOW), malformed, `${name}=${value}`)
  }
  t.end()
})

t.test('a download URL fits one artifact under one name', (t) => {
  const signer = new UrlSigner({ secrets: ['one'] })
  const query = new URLSearchParams(signer.signDownload(download))
  t.same(signer.verifyDownload(artifact, query, NOW), { ok: true, expiresAtSeconds: NOW + 60 })
  t.same(signer.verifyDownload(artifact, query, NOW + 61), { ok: false, reason: 'expired' })
  for (const other of [
    { ...artifact, serverId: 'x' },
    { ...artifact, sessionId: mintSessionId() },
    { ...artifact, artifactId: 'B'.repeat(22) },
    { ...artifact, filename: 'ö 2.pdf' },
  ]) {
    t.same(signer.verifyDownload(other, query, NOW), { ok: false, reason: 'bad_signature' })
  }
  t.ok(hasDownloadSignature(query))
  t.notOk(hasDownloadSignature(new URLSearchParams('mcp_upload_sig=1')))
  t.same(signer.verifyDownload(artifact, new URLSearchParams('mcp_artifact_exp=1'), NOW), {
    ok: false,
    reason: 'malformed',
  })
  t.end()
})

t.test('fields can not be shifted into one another', (t) => {
  const signer = new UrlSigner({ secrets: ['one'] })
  const signed = { ...download, artifactId: 'ab', filename: 'c' }
  const query = new URLSearchParams(signer.signDownload(signed))
  const shifted = { ...signed, artifactId: 'a', filename: 'bc' }
  t.same(signer.verifyDownload(shifted, query, NOW), { ok: false, reason: 'bad_signature' })
  t.end()
})

t.test('a replaced secret still verifies what is out, and no longer signs', (t) => {
  const before = new UrlSigner({ secrets: ['old'] })
  const rotated = new UrlSigner({ secrets: ['new', 'old'] })
  const after = new UrlSigner({ secrets: ['new'] })
  const out = new URLSearchParams(before.signUpload(upload))
  t.ok(rotated.verifyUpload('files', out, NOW).ok)
  t.notOk(after.verifyUpload('files', out, NOW).ok)
  t.ok(after.verifyUpload('files', new URLSearchParams(rotated.signUpload(upload)), NOW).ok)
  t.end()
})

t.test('a signer without a usable secret is refused', (t) => {
  t.throws(() => new UrlSigner({ secrets: [] }), RangeError)
  t.throws(() => new UrlSigner({ secrets: ['good', ' '] }), RangeError)
  t.end()
})

t.test('processes that race for the secret file all get the same secret', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'signing-'))
  t.teardown(() => rm(directory, { recursive: true }))
  const path = join(directory, 'state', 'secret')
  const secrets = await Promise.all(Array.from({ length: 20 }, () => loadOrCreateSecrets(path)))
  t.equal(new Set(secrets.flat()).size, 1)
  t.match(secrets[0]?.[0], /^[0-9a-f]{64}$/)
  t.equal((await stat(path)).mode & 0o777, 0o600)
  t.same(await loadOrCreateSecrets(path), secrets[0], 'a restart keeps it')
  t.same(await readdir(join(directory, 'state')), ['secret'], 'nothing else is left')
})

t.test('a file that holds no secret is refused and left as it is', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'signing-'))
  t.teardown(() => rm(directory, { recursive: true }))
  const path = join(directory, 'secret')
  await writeFile(path, 'hello')
  await t.rejects(loadOrCreateSecrets(path), /does not hold signing secrets/)
  t.equal(await readFile(path, 'utf8'), 'hello')
})

t.test('a secret file may hold several, the first of which signs', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'signing-'))
  t.teardown(() => rm(directory, { recursive: true }))
  const path = join(directory, 'secret')
  const [first, second] = ['a'.repeat(64), 'b'.repeat(64)]
  await writeFile(path, `${first}\n\n  ${second} \r\n`)
  t.same(await loadOrCreateSecrets(path), [first, second])
  await writeFile(path, `${first}\nnot one\n`)
  await t.rejects(loadOrCreateSecrets(path), /does not hold signing secrets/)
})
