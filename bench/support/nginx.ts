/** nginx as the yardstick: a plain reverse proxy with one worker and kept-alive upstream connections, and a server of static files. */
import { execFileSync } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { startChild } from './child.ts'
import { freePort } from './free-port.ts'

/** A running nginx. */
export interface Nginx {
  readonly pid: number
  /** The proxied MCP endpoint. */
  readonly url: string
  /** Where `filesDirectory` is served, with and without `sendfile`. */
  readonly filesUrl: string
  readonly filesWithoutSendfileUrl: string
  stop(): Promise<void>
}

/** Version of the installed nginx, or undefined when there is none. */
export function nginxVersion(): string | undefined {
  try {
    // It prints its version to standard error.
    const text = execFileSync('sh', ['-c', 'PATH="$PATH:/usr/sbin" nginx -v 2>&1'], {
      encoding: 'utf8',
    })
    return /nginx\/(\S+)/.exec(text)?.[1]
  } catch {
    return undefined
  }
}

/** Starts nginx with its files in `directory`. */
export async function startNginx(options: {
  readonly directory: string
  readonly upstreamPort: number
  readonly filesDirectory: string
}): Promise<Nginx> {
  const port = await freePort()
  await mkdir(options.directory, { recursive: true })
  const configPath = join(options.directory, 'nginx.conf')
  await writeFile(configPath, configText({ ...options, port }))
  const child = await startChild({
    name: 'nginx',
    command: 'sh',
    // nginx says nothing when it is ready: the shell reports the start, and the port is asked below.
    args: [
      '-c',
      'PATH="$PATH:/usr/sbin"; echo starting; exec nginx -c "$0" -p "$1" -e stderr',
      configPath,
      options.directory,
    ],
    readyPattern: /starting/,
  })
  const base = `http://127.0.0.1:${port}`
  try {
    await answering(`${base}/ready`)
  } catch (error) {
    await child.stop()
    throw new Error(`nginx does not answer: ${child.errorText()}`, { cause: error })
  }
  return {
    pid: child.pid,
    url: `${base}/mcp`,
    filesUrl: `${base}/files/`,
    filesWithoutSendfileUrl: `${base}/files-copied/`,
    stop: () => child.stop(),
  }
}

function configText(options: {
  readonly directory: string
  readonly port: number
  readonly upstreamPort: number
  readonly filesDirectory: string
}): string {
  const temp = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (kind) => `  ${kind}_temp_path ${options.directory}/${kind};`,
  )
  return `${process.getuid?.() === 0 ? 'user root;\n' : ''}worker_processes 1;
daemon off;
pid ${options.directory}/nginx.pid;
error_log stderr warn;
worker_rlimit_nofile 16384;
events { worker_connections 8192; }
http {
${temp.join('\n')}
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000000;
  upstream mcp { server 127.0.0.1:${options.upstreamPort}; keepalive 256; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:${options.port} backlog=4096;
    location = /ready { return 204; }
    location /files/ { alias ${options.filesDirectory}/; }
    location /files-copied/ { alias ${options.filesDirectory}/; sendfile off; output_buffers 2 256k; }
    location / {
      proxy_pass http://mcp;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }
  }
}
`
}

async function answering(url: string): Promise<void> {
  const deadline = performance.now() + 5_000
  for (;;) {
    try {
      // oxlint-disable-next-line no-await-in-loop -- asks until it answers
      await fetch(url)
      return
    } catch (error) {
      if (performance.now() > deadline) throw error
      // oxlint-disable-next-line no-await-in-loop -- asks until it answers
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}
