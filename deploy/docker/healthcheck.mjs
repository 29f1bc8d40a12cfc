// The image's HEALTHCHECK: asks the adapter whether it lives. HEALTHCHECK_URL where it listens elsewhere than on port 8932 without TLS.

const url = process.env.HEALTHCHECK_URL ?? 'http://127.0.0.1:8932/livez'

try {
  const { status } = await fetch(url, { signal: AbortSignal.timeout(2_000) })
  process.exitCode = status === 200 ? 0 : 1
} catch (error) {
  process.stderr.write(`${url}: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
