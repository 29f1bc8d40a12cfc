/** `npm run deploy:check` finds what is wrong with deploy/: a copy of it is broken in many places at once, and each has to be told. */
import { spawnSync } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'
import type { Test } from 'tap'

t.setTimeout(120_000)

/** In which file what is replaced by what, and what is to be said of it. */
const BREAKS: readonly (readonly [string, string | RegExp, string, RegExp])[] = [
  [
    'compose.yaml',
    'stop_grace_period: 20s',
    'stop_grace_period: 5s',
    /stop_grace_period is too short/,
  ],
  [
    'compose.yaml',
    '    REDIS_PASSWORD: ${',
    '    PASSWORD: ${',
    /adapter-1: nothing sets REDIS_PASSWORD/,
  ],
  ['compose.yaml', '- data:/data\n', '- data:/elsewhere\n', /adapter-1: no volume at \/data\n/],
  [
    'compose.yaml',
    '    user: redis\n    read_only: true\n    cap_drop: [ALL]\n',
    '',
    /redis has more rights/,
  ],
  ['compose.yaml', 'redis:7-bookworm', 'redis:latest', /redis has no fixed version/],
  [
    'compose/haproxy.cfg',
    'adapter-2:8932',
    'adapter-2:8931',
    /adapter-2 is not in compose\/haproxy/,
  ],
  ['docker/Dockerfile', '"tini", "--", ', '', /Dockerfile: nothing reaps orphans/],
  ['docker/Dockerfile', 'USER 10001:10001', 'USER root', /Dockerfile: runs as root/],
  ['docker/Dockerfile', 'COPY tsconfig.json', 'COPY nothing.json', /nothing\.json is missing/],
  ['docker/Dockerfile.dockerignore', '!src\n', '', /src is kept out/],
  ['docker/healthcheck.mjs', ':8932/livez', ':8933/livez', /health check does not ask port 8932/],
  [
    'systemd/remote-mcp-adapter.service',
    'TimeoutStopSec=30',
    'TimeoutStopSec=9',
    /TimeoutStopSec is too/,
  ],
  [
    'systemd/remote-mcp-adapter.service',
    'StartLimitIntervalSec=0',
    'StartLimitIntervalSec=9',
    /given up/,
  ],
  ['systemd/remote-mcp-adapter.service', '=2 64', '=64', /a wrong configuration is tried again/],
  [
    'helm/remote-mcp-adapter/values.yaml',
    'internalPort: 8933',
    'internalPort: 8934',
    /replica_hop is not reached/,
  ],
  [
    'helm/remote-mcp-adapter/values.yaml',
    'periodSeconds: 1',
    'periodSeconds: 9',
    /pre_drain_seconds is shorter/,
  ],
  ['helm/remote-mcp-adapter/values.yaml', '//${POD_IP}', '//${NO_IP}', /nothing sets NO_IP/],
  [
    'helm/remote-mcp-adapter/Chart.yaml',
    /appVersion: .*/,
    'appVersion: 9.9.9',
    /appVersion is 9\.9\.9/,
  ],
  [
    'helm/remote-mcp-adapter/templates/deployment.yaml',
    'path: /readyz',
    'path: /healthz',
    /readiness probe asks/,
  ],
  [
    'helm/remote-mcp-adapter/templates/service.yaml',
    'targetPort: http',
    'targetPort: web',
    /no port .* called web/,
  ],
  [
    'helm/remote-mcp-adapter/templates/pvc.yaml',
    'quote }}\n{{- end }}',
    'quote }}',
    /pvc\.yaml: .* has no end/,
  ],
]

async function copyOf(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'adapter-deploy-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const copy = join(folder, 'deploy')
  await cp('deploy', copy, { recursive: true })
  return copy
}

function check(folder: string): { readonly code: number | null; readonly output: string } {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['scripts/check-deploy.mjs', folder],
    { encoding: 'utf8' },
  )
  return { code: status, output: `${stdout}${stderr}` }
}

t.test('what is right is not complained of', async (t) => {
  const { code, output } = check(await copyOf(t))
  t.equal(code, 0, output)
})

t.test('whatever is broken is told', async (t) => {
  const folder = await copyOf(t)
  for (const [path, what, instead] of BREAKS) {
    const file = join(folder, path)
    const text = await readFile(file, 'utf8')
    const broken = text.replace(what, instead)
    t.not(broken, text, `${path} has ${String(what)}`)
    await writeFile(file, broken)
  }
  const { code, output } = check(folder)
  t.equal(code, 1)
  for (const [, , , told] of BREAKS) t.match(output, told)
})
