/** The client's side of OAuth, as the providers of both SDKs want it, and the user who approves. */

const REDIRECT = 'http://127.0.0.1/callback'
const METADATA = {
  client_name: 'test client',
  redirect_uris: [REDIRECT],
  grant_types: ['authorization_code'],
  response_types: ['code'],
  token_endpoint_auth_method: 'none',
}

/** See the file comment. One client, authorized once. */
export class Credentials {
  asked: URL | undefined
  #client: { client_id: string } | undefined
  #tokens: { access_token: string; token_type: string } | undefined
  #verifier = ''

  get accessToken(): string {
    return this.#tokens?.access_token ?? ''
  }

  provider() {
    return {
      redirectUrl: REDIRECT,
      clientMetadata: METADATA,
      clientInformation: () => this.#client,
      saveClientInformation: (client: { client_id: string }) => {
        this.#client = client
      },
      tokens: () => this.#tokens,
      saveTokens: (tokens: { access_token: string; token_type: string }) => {
        this.#tokens = tokens
      },
      redirectToAuthorization: (url: URL) => {
        this.asked = url
      },
      saveCodeVerifier: (verifier: string) => {
        this.#verifier = verifier
      },
      codeVerifier: () => this.#verifier,
    }
  }

  /** What a browser does with the authorization URL: the code that comes back. */
  async approve(): Promise<string> {
    if (this.asked === undefined) throw new Error('the client did not ask for authorization')
    const answer = await fetch(this.asked, { redirect: 'manual' })
    const location = answer.headers.get('location')
    const code = location === null ? null : new URL(location).searchParams.get('code')
    if (code === null) throw new Error(`not approved: ${answer.status} ${await answer.text()}`)
    return code
  }
}
