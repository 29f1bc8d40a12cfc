/** A well-behaved client of the fuzzed adapter: makes the sessions, URLs and files that requests refer to, and sees that all goes on beside them. */
import { pathOf } from '../support/raw-http.ts'
import { answerIn, send, WireSession } from '../support/wire.ts'
import { TOKEN, type FuzzTarget } from './fuzz-target.ts'
import { TOKEN_HEADER, type FuzzWorld } from './fuzz-world.ts'

const HEADERS = { [TOKEN_HEADER]: TOKEN }

/** Sessions and files of one lane of the fuzzer. */
export class FuzzClient {
  readonly #target: FuzzTarget
  #files: WireSession | undefined
  #world: FuzzWorld | undefined

  constructor(target: FuzzTarget) {
    this.#target = target
  }

  /** Everything anew: what there was may have been ended, used up or expired. */
  async renew(): Promise<FuzzWorld> {
    const files = await this.#open('files')
    const hostile = await this.#openHostile()
    this.#files = files
    const handle = await this.upload(files, 'uploaded')
    const report = await this.report(files, 'reported')
    this.#world = {
      token: TOKEN,
      sessions: { files: files.id, hostile: hostile.id },
      handle,
      artifactUri: report.uri,
      uploadTarget: pathOf(await this.uploadUrl(files)),
      downloadTarget: pathOf(report.url),
    }
    return this.#world
  }

  /** The same with an upload URL that is not used; undefined when the session has gone. */
  async renewTicket(): Promise<FuzzWorld | undefined> {
    if (this.#files === undefined || this.#world === undefined) return undefined
    const url = await this.uploadUrl(this.#files).catch(() => undefined)
    if (url === undefined) return undefined
    this.#world = { ...this.#world, uploadTarget: pathOf(url) }
    return this.#world
  }

  /** Ends the session. */
  async leave(): Promise<void> {
    await this.#files?.delete().catch(() => undefined)
  }

  /** Goes through all that a client does; throws when something is not as it must be. */
  async liveOn(): Promise<void> {
    const session = (this.#files ??= await this.#open('files'))
    expect('echo', textOf(await session.call('echo', { text: 'still here' })), /still here/)
    const content = `content ${Date.now()}`
    const handle = await this.upload(session, content)
    const read = await session.call('read_file', { path: handle })
    expect('read_file', textOf(read), new RegExp(content))
    const { url } = await this.report(session, content)
    const download = await send(url, { method: 'GET' })
    expect('download', download.body, new RegExp(`^${content}$`))
  }

  async uploadUrl(session: WireSession): Promise<string> {
    const text = textOf(await session.call('files_get_upload_url'))
    const url = /"upload_url":"([^"]+)"/.exec(text)?.[1]
    if (url === undefined) throw new Error(`no upload URL: ${text}`)
    this.#target.hide(new URL(url).searchParams.get('mcp_upload_sig') ?? url)
    return url
  }

  async upload(session: WireSession, content: string): Promise<string> {
    const url = await this.uploadUrl(session)
    const { body } = await send(url, { method: 'PUT', body: content })
    const handle = /"upload_handle":"([^"]+)"/.exec(body)?.[1]
    if (handle === undefined) throw new Error(`not uploaded: ${body}`)
    return handle
  }

  async report(
    session: WireSession,
    content: string,
  ): Promise<{ readonly uri: string; readonly url: string }> {
    const text = textOf(await session.call('write_report', { filename: 'r.txt', content }))
    const uri = /"(artifact:\/\/[^"]+)"/.exec(text)?.[1]
    const url = /"download_url":"([^"]+)"/.exec(text)?.[1]
    if (uri === undefined || url === undefined) throw new Error(`no artifact: ${text}`)
    this.#target.hide(new URL(url).searchParams.get('mcp_artifact_sig') ?? url)
    return { uri, url }
  }

  /** The hostile upstream may close the connection that the first try goes over, and an initialize is not repeated by itself. */
  async #openHostile(): Promise<WireSession> {
    for (let tries = 1; ; tries++) {
      const opened = await this.#open('hostile').catch((error: unknown) => {
        if (tries < 5 && String(error).includes('ADAPTER_UPSTREAM_')) return undefined
        throw error
      })
      if (opened !== undefined) return opened
    }
  }

  async #open(server: string): Promise<WireSession> {
    const url = `${this.#target.url}/mcp/${server}`
    const session = await WireSession.open(url, { headers: HEADERS })
    this.#target.hide(session.id)
    return session
  }
}

/** The answer as JSON text. */
function textOf(answer: Awaited<ReturnType<WireSession['call']>>): string {
  if (answer.status !== 200) throw new Error(`answered ${answer.status} ${answer.body}`)
  return JSON.stringify(answerIn(answer))
}

function expect(what: string, text: string, pattern: RegExp): void {
  if (!pattern.test(text)) throw new Error(`${what} was answered ${text.slice(0, 500)}`)
}
