/** Where a collector is, from the endpoint that the configuration names, in the words of exporters. The same for all that is exported. */

/** An endpoint without the credentials in it, and these as the header that HTTP has for them. */
export interface CollectorAddress {
  readonly url: string
  readonly authorization: Readonly<Record<string, string>>
}

/** Reads an endpoint of OTLP over HTTP: a URL. */
export function httpAddress(endpoint: string): CollectorAddress {
  const url = new URL(endpoint)
  const { username, password } = url
  if (username === '' && password === '') return { url: endpoint, authorization: {} }
  url.username = ''
  url.password = ''
  const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
  return {
    url: url.href,
    authorization: { authorization: `Basic ${Buffer.from(pair).toString('base64')}` },
  }
}

/** Reads an endpoint of OTLP over gRPC: a URL or `host:port`. Whoever writes https:// does not want headers to be read on the way, whatever `insecure` says. */
export function grpcAddress(
  endpoint: string,
  insecure: boolean,
): CollectorAddress & { readonly isTls: boolean } {
  const address = httpAddress(endpoint.includes('://') ? endpoint : `http://${endpoint}`)
  const { origin, protocol } = new URL(address.url)
  return { ...address, url: origin, isTls: !insecure || protocol === 'https:' }
}
