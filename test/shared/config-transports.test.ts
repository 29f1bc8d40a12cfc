/** Which fields of `servers[].upstream` go with which transport, and that what a process is given in secret stays so. */
import t from 'tap'

import { parseConfig } from '../../src/shared/config/load.ts'
import { printEffectiveConfig } from '../../src/shared/config/print.ts'
import { secretsOf } from '../../src/shared/config/secrets.ts'
import { problems, report } from './config-loading.ts'

/** A file with one server, whose fields are given. */
function server(fields: string): string {
  return `servers: [{${fields}}]`
}

t.test('each transport needs its own fields, and no others', async (t) => {
  const cases: [upstream: string, path: string, message: RegExp][] = [
    ['{}', 'url', /must be set while transport is streamable_http/],
    ['{transport: sse}', 'url', /must be set while transport is sse/],
    ['{transport: stdio}', 'command', /must be set while transport is stdio/],
    ['{url: "http://u", command: x}', 'command', /no meaning while transport is streamable_http/],
    ['{url: "http://u", env: {A: b}}', 'env', /no meaning/],
    ['{url: "http://u", max_processes: 3}', 'max_processes', /no meaning/],
    ['{transport: stdio, command: x, url: "http://u"}', 'url', /no meaning while .* stdio/],
    ['{transport: stdio, command: x, static_headers: {a: b}}', 'static_headers', /no meaning/],
    ['{transport: stdio, command: x, insecure_tls: true}', 'insecure_tls', /no meaning/],
    [
      '{transport: stdio, command: x, client_headers: {passthrough: [a]}}',
      'client_headers.passthrough',
      /a process gets no headers/,
    ],
    ['{transport: stdio, command: " "}', 'command', /must not be blank/],
    ['{transport: stdio, command: x, args: x}', 'args', /must be a list/],
    ['{transport: stdio, command: x, args: ["a\\0"]}', 'args[0]', /NUL/],
    ['{transport: stdio, command: x, env: {"A=B": c}}', 'env.A=B', /name of an environment/],
    ['{transport: stdio, command: x, inherit_env: ["A B"]}', 'inherit_env[0]', /name of an env/],
    ['{transport: stdio, command: x, process: each}', 'process', /per_session, shared/],
  ]
  for (const [upstream, field, message] of cases) {
    const text = server(`id: a, mount_path: /a, upstream: ${upstream}`)
    t.match(problems(text), [{ path: `servers[0].upstream.${field}`, message }], upstream)
  }
  t.same(
    report('servers:\n  - id: a\n    mount_path: /a\n    upstream:\n      transport: stdio\n').map(
      (line) => line.slice(0, 30),
    ),
    ['4:5 servers[0].upstream.comman'],
    'the place is where it is missing',
  )
  const secret = server(
    'id: a, mount_path: /a, upstream: {transport: stdio, command: x, env: {KEY: 12345}}',
  )
  t.notMatch(JSON.stringify(problems(secret)), /12345/, 'values of variables are not shown')
})

t.test('the values of environment variables are masked, and known to be secret', async (t) => {
  const loaded = parseConfig({
    path: 'config.yaml',
    env: {},
    text: server(
      'id: a, mount_path: /a, upstream: {transport: stdio, command: x, args: [shown], env: {level: the-value}}',
    ),
  })
  const printed = printEffectiveConfig(loaded)
  t.match(printed, /level: <redacted>/)
  t.match(printed, /- shown/)
  t.notMatch(printed, /the-value/)
  const { values, names } = secretsOf(loaded.config)
  t.ok(values.includes('the-value'))
  t.notOk(names.includes('level'), 'a field of the log with the name of a variable is no secret')
})
