// Part of `npm run check`: what can be told of deploy/ without a container runtime or a cluster. The configurations in it load with the adapter's own
// loader; the compose file, the chart's values and templates, the images and the unit are held together; HAProxy and systemd judge their files where
// they are installed. docs/deploy.md says what has been run for real. An argument names another folder to look at than deploy/: the tests break one.

import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

import { Ajv } from 'ajv'
import { parse, stringify } from 'yaml'

import { templateProblems } from './helm-templates.mjs'
import { ensureBuild, ensureDependencies, projectRoot, runMain, say } from './setup.mjs'

const DEPLOY = resolve(process.argv[2] ?? join(projectRoot, 'deploy'))
const CHART = join(DEPLOY, 'helm', 'remote-mcp-adapter')
/** Beyond its settings, what a stop may take, in seconds (docs/operations.md). */
const STOP_MARGIN = 5
/** Keys of a service that are used here; anything else is a mistake, or has to be thought of. */
const SERVICE_KEYS = new Set(
  'image build restart init user read_only cap_drop security_opt tmpfs stop_grace_period environment volumes depends_on ports command healthcheck shm_size'.split(
    ' ',
  ),
)

const problems = []
const notes = []

await runMain(async () => {
  ensureDependencies()
  ensureBuild()
  const { parseConfig } = await fromBuild('shared/config/load.js')
  const { unbuiltFields } = await fromBuild('shared/config/unbuilt-fields.js')

  /** The configuration in a text, as the adapter sees it; undefined when it refuses it. */
  const load = (name, text) => {
    const variables = [...text.matchAll(/\$\{([A-Z_]+)/g)].map(([, variable]) => variable)
    const env = Object.fromEntries(variables.map((variable) => [variable, exampleOf(variable)]))
    try {
      const loaded = parseConfig({ text, path: name, env })
      const unbuilt = unbuiltFields(loaded)
      if (unbuilt.length > 0) problems.push(`${name}: without effect: ${unbuilt.join(', ')}`)
      return loaded.config
    } catch (error) {
      problems.push(`${name}: ${error.message}`)
      return undefined
    }
  }
  checkCompose(load('deploy/compose/adapter.yaml', read('compose/adapter.yaml')))
  checkChart(load)
  checkImage('docker/Dockerfile', projectRoot, true)
  checkImage('docker/playwright.Dockerfile', join(DEPLOY, 'docker'), false)
  checkUnit()
  checkWith(
    'helm',
    ['template', 'a', CHART, '--kube-version', '1.30.0', '--set', 'secrets.existingSecret=x'],
    () => false,
  )
  checkWith('haproxy', ['-c', '-f', join(DEPLOY, 'compose', 'haproxy.cfg')], () => false)
  for (const note of notes) say(note)
  for (const problem of problems) say(`deploy: ${problem}`)
  if (problems.length === 0)
    say('deploy/: configurations load, values fit, templates hold together')
  return problems.length === 0 ? 0 : 1
})

function fromBuild(path) {
  return import(pathToFileURL(join(projectRoot, 'dist', path)).href)
}

/** Something that can stand for a variable of a configuration. */
function exampleOf(variable) {
  if (variable.endsWith('_IP')) return '192.0.2.1'
  return variable.endsWith('_URL') ? 'https://a.example' : `value-of-${variable}`
}

function read(path) {
  return readFileSync(join(DEPLOY, path), 'utf8')
}

function checkCompose(config) {
  const text = read('compose.yaml')
  const { services, volumes } = parse(text, { merge: true })
  const complain = (problem) => problems.push(`compose.yaml: ${problem}`)
  const examples = read('compose/env.example')
  for (const [, variable] of text.matchAll(/(?<!\$)\$\{([A-Z_]+)/g))
    if (!new RegExp(`^${variable}=`, 'm').test(examples))
      complain(`${variable} is not in compose/env.example`)
  for (const [name, service] of Object.entries(services)) {
    const unknown = Object.keys(service).filter((key) => !SERVICE_KEYS.has(key))
    if (unknown.length > 0) complain(`${name} has ${unknown.join(', ')}`)
    if (service.image === undefined) complain(`${name} has no image`)
    if (service.image?.endsWith(':latest')) complain(`${name} has no fixed version`)
    const context = service.build?.context
    const file = context && join(DEPLOY, context, service.build.dockerfile)
    if (file !== undefined && !existsSync(file)) complain(`${name}: ${file} is missing`)
    if (!service.cap_drop?.includes('ALL') || !service.security_opt?.[0].startsWith('no-new-priv'))
      complain(`${name} has more rights than it needs`)
    const needed = service.depends_on ?? []
    for (const other of Array.isArray(needed) ? needed : Object.keys(needed))
      if (services[other] === undefined) complain(`${name} depends on ${other}, which is not there`)
    for (const volume of service.volumes ?? []) {
      const [source] = volume.split(':')
      const isThere = source.startsWith('.') ? existsSync(join(DEPLOY, source)) : source in volumes
      if (!isThere) complain(`${name}: volume ${source} is not there`)
    }
  }
  if (config === undefined) return
  const adapters = Object.entries(services).filter(([, one]) => one.image === 'remote-mcp-adapter')
  const { preDrainSeconds, shutdownTimeoutSeconds, port } = config.core
  const { root } = config.storage
  if (!read('docker/healthcheck.mjs').includes(`:${port}/livez`))
    complain(`the image's health check does not ask port ${port}`)
  for (const [name, service] of adapters) {
    const grace = Number.parseInt(service.stop_grace_period, 10)
    if (!(grace >= preDrainSeconds + shutdownTimeoutSeconds + STOP_MARGIN))
      complain(`${name}: stop_grace_period is too short`)
    if (service.read_only !== true) complain(`${name} may write to its image`)
    for (const [, variable] of read('compose/adapter.yaml').matchAll(/\$\{([A-Z_]+)/g))
      if (service.environment[variable] === undefined) complain(`${name}: nothing sets ${variable}`)
    for (const folder of [root, `${root}/sessions`])
      if (!service.volumes.some((volume) => volume.split(':')[1] === folder))
        complain(`${name}: no volume at ${folder}`)
    if (!read('compose/haproxy.cfg').includes(`server ${name} ${name}:${port} check`))
      complain(`${name} is not in compose/haproxy.cfg`)
  }
  for (const { upstream } of config.servers) {
    const { hostname } = new URL(upstream.url)
    if (services[hostname] === undefined) complain(`no service is called ${hostname}`)
  }
}

function checkChart(load) {
  const values = parse(readFileSync(join(CHART, 'values.yaml'), 'utf8'))
  const schema = JSON.parse(readFileSync(join(CHART, 'values.schema.json'), 'utf8'))
  const complain = (problem) => problems.push(`helm: ${problem}`)
  const fits = new Ajv({ allErrors: true, strict: true, strictRequired: false }).compile(schema)
  if (!fits(values))
    for (const { instancePath, message } of fits.errors)
      complain(`values${instancePath} ${message}`)
  // A misspelt value must not pass for one that is set.
  if (fits({ ...values, replicaCuont: 3 })) complain('values.schema.json takes any name')
  for (const name of Object.keys(values))
    if (schema.properties[name] === undefined) complain(`${name} is not in values.schema.json`)
  for (const problem of templateProblems(join(CHART, 'templates'), values)) complain(problem)
  const chart = parse(readFileSync(join(CHART, 'Chart.yaml'), 'utf8'))
  const { version } = JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8'))
  if (chart.appVersion !== version) complain(`appVersion is ${chart.appVersion}, not ${version}`)
  const config = load('helm: values.yaml: config', stringify(values.config))
  if (config === undefined) return
  const { readiness } = values.probes
  const noticed = (readiness.periodSeconds + readiness.timeoutSeconds) * readiness.failureThreshold
  if (config.core.preDrainSeconds < noticed)
    complain(`pre_drain_seconds is shorter than the ${noticed} s in which probes notice`)
  // What every pod has; `env` of the deployment names it.
  const deployment = readFileSync(join(CHART, 'templates', 'deployment.yaml'), 'utf8')
  const ports = new Set(
    [...deployment.matchAll(/- name: (\w+)\n\s+containerPort:/g)].map(([, name]) => name),
  )
  for (const name of readdirSync(join(CHART, 'templates'))) {
    const text = readFileSync(join(CHART, 'templates', name), 'utf8')
    for (const [, named] of text.matchAll(/(?:targetPort|port): ([a-z]+)$/gm))
      if (!ports.has(named)) complain(`${name}: no port of the pods is called ${named}`)
  }
  for (const [, probe, path] of deployment.matchAll(/(\w+)Probe:\s+httpGet:\s+path: (\S+)/g))
    if (path !== (probe === 'readiness' ? '/readyz' : '/livez'))
      complain(`the ${probe} probe asks ${path}`)
  const ofPods = new Set([...deployment.matchAll(/- name: ([A-Z_]+)$/gm)].map(([, name]) => name))
  for (const [, variable] of JSON.stringify(values.config).matchAll(/\$\{([A-Z_]+)\}/g))
    if (values.secrets.values[variable] === undefined && !ofPods.has(variable))
      complain(`nothing sets ${variable}`)
  // Services and policies let replicas reach each other on one port, and nowhere else.
  const { port, advertisedUrl } = config.core.replicaHop
  const advertised = advertisedUrl === null ? undefined : new URL(advertisedUrl).port
  if (port !== values.internalPort || advertised !== String(port))
    complain(`replica_hop is not reached at internalPort (${values.internalPort})`)
}

function checkImage(path, context, isOurs) {
  const text = read(path).replaceAll(/\\\n/g, ' ')
  const complain = (problem) => problems.push(`${path}: ${problem}`)
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  for (const line of lines.filter((one) => one.startsWith('FROM')))
    if (!/^FROM \S+:[\w.-]+(?: AS \w+)?$/.test(line) || line.includes(':latest'))
      complain(`no fixed version: ${line}`)
  const last = lines.slice(lines.findLastIndex((line) => line.startsWith('FROM')))
  const user = last.findLast((line) => line.startsWith('USER '))
  if (user === undefined || /^USER (?:root|0)\b/.test(user)) complain('runs as root')
  if (isOurs && !last.some((line) => line.startsWith('HEALTHCHECK'))) complain('no HEALTHCHECK')
  // Process 1 gets the orphans of stdio servers, and Node reaps none but its own children.
  if (isOurs && !last.some((line) => line.startsWith('ENTRYPOINT ["tini", "--",')))
    complain('nothing reaps orphans')
  const ignored = `${join(DEPLOY, path)}.dockerignore`
  const kept = existsSync(ignored)
    ? readFileSync(ignored, 'utf8')
        .split('\n')
        .filter((line) => line.startsWith('!'))
        .map((line) => line.slice(1))
    : undefined
  for (const line of lines.filter((one) => /^COPY (?!--from)/.test(one))) {
    for (const source of line.split(/\s+/).slice(1, -1)) {
      if (!existsSync(resolve(context, source))) complain(`${source} is missing`)
      else if (kept !== undefined && !kept.some((one) => isWithin(source, one)))
        complain(`${source} is kept out by ${path}.dockerignore`)
    }
  }
}

function isWithin(path, folder) {
  let at = normalize(path)
  while (at !== '.' && at !== folder) at = dirname(at)
  return at === folder
}

function checkUnit() {
  const path = join(DEPLOY, 'systemd', 'remote-mcp-adapter.service')
  const text = readFileSync(path, 'utf8')
  const seconds = Number(/^TimeoutStopSec=(\d+)$/m.exec(text)?.[1])
  // Defaults of pre_drain_seconds with Redis, shutdown_timeout_seconds and telemetry.shutdown_drain_timeout_seconds.
  if (!(seconds >= 5 + 10 + 10 + STOP_MARGIN)) problems.push('systemd: TimeoutStopSec is too short')
  const says = (line) => text.includes(`\n${line}\n`)
  // Only the exit code of the main process can keep systemd from starting it again, and only without a limit does it outlive an outage of Redis.
  if (!says('RestartPreventExitStatus=2 64') || text.includes('\nExecStartPre='))
    problems.push('systemd: a wrong configuration is tried again and again')
  if (!says('Restart=always') || !says('StartLimitIntervalSec=0'))
    problems.push('systemd: it is given up after some starts')
  // That the program is not installed on the machine of the check is no fault of the unit.
  checkWith('systemd-analyze', ['verify', path], (line) =>
    /is not executable|Failed to (?:open|connect)|man |Unit .* not found/.test(line),
  )
}

/** Has a program judge a file, where it is installed. `isHarmless` says which of its lines are none of the file's fault. */
function checkWith(program, args, isHarmless) {
  const path = `${process.env.PATH}:/usr/sbin:/usr/local/sbin`
  const { error, status, stdout, stderr } = spawnSync(program, args, {
    encoding: 'utf8',
    env: { ...process.env, PATH: path },
  })
  if (error !== undefined) {
    notes.push(`deploy: ${program} is not installed here; its file was not judged by it`)
    return
  }
  const lines = `${stdout}${stderr}`.split('\n').filter((line) => line !== '' && !isHarmless(line))
  const isRight = program === 'systemd-analyze' ? lines.length === 0 : status === 0
  if (!isRight) problems.push(`${program}: ${lines.join('\n')}`)
}
