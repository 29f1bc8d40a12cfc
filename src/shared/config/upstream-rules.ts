/** Rules of `servers[].upstream.tls`: what goes together, and what would be used at all. */
import type { RuleViolation } from './rule-violation.ts'
import type { ConfigDocument } from './schema/document.ts'

/** Lists what is broken of them. */
export function* checkUpstreamTls({ servers }: ConfigDocument): Generator<RuleViolation> {
  for (const [index, { upstream }] of servers.entries()) {
    const { tls, url, insecure_tls: isInsecure } = upstream
    const at = ['servers', index, 'upstream', 'tls']
    const fields = ['ca_file', 'cert_file', 'key_file', 'key_passphrase', 'server_name'] as const
    // An authority may be for the proxy alone.
    const idle = fields.find((field) => tls[field] !== null && field !== 'ca_file')
    if (idle !== undefined && /^http:/i.test(url ?? '')) {
      yield {
        path: [...at, idle],
        message: 'would not be used: the URL of this upstream begins with http://',
      }
    }
    if ((tls.cert_file === null) !== (tls.key_file === null)) {
      const missing = tls.cert_file === null ? 'cert_file' : 'key_file'
      yield { path: [...at, missing], message: 'must be set too: a certificate needs its key' }
    }
    if (tls.key_passphrase !== null && tls.key_file === null) {
      yield { path: [...at, 'key_passphrase'], message: 'is for key_file, which is not set' }
    }
    if (isInsecure && tls.ca_file !== null && upstream.proxy_url === null) {
      yield {
        path: ['servers', index, 'upstream', 'insecure_tls'],
        message:
          'leaves the certificate unchecked, while upstream.tls.ca_file says how to check it; remove one of the two',
      }
    }
  }
}
