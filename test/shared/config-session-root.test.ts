/** `upstream.session_root` and what goes with it, as the configuration reads it. */
import { readFileSync } from 'node:fs'

import t from 'tap'

import { load, problems } from './config-loading.ts'

function server(sessionRoot: string, producer?: string): string {
  const list = producer === undefined ? '' : `{type: artifact_producer, tools: [t], ${producer}}`
  const upstream = `{url: "http://u", session_root: ${sessionRoot}}`
  return `servers: [{id: a, mount_path: /a, upstream: ${upstream}, adapters: [${list}]}]`
}

t.test('what would not work, or would not be used, is refused', async (t) => {
  const cases: [yaml: string, path: string, message: RegExp][] = [
    [
      server('{}', 'output_locator: {mode: directory}'),
      'servers[0].adapters[0].output_locator.mode',
      /only while upstream\.session_root\.enabled is true/,
    ],
    [
      server('{enabled: true}', 'output_path_argument: f, output_locator: {mode: directory}'),
      'servers[0].adapters[0].output_path_argument',
      /must not be set while output_locator\.mode is directory/,
    ],
    [
      server('{sessions_path: /mnt}'),
      'servers[0].upstream.session_root.sessions_path',
      /would not be used/,
    ],
    [
      server('{enabled: true, sessions_path: mnt/sessions}'),
      'servers[0].upstream.session_root.sessions_path',
      /must be an absolute path/,
    ],
    [
      server('{enabled: true, path: /mnt}'),
      'servers[0].upstream.session_root.path',
      /did you mean sessions_path/,
    ],
  ]
  for (const [yaml, path, message] of cases) t.match(problems(yaml), [{ path, message }], yaml)
})

t.test('the example is what the documentation says', async (t) => {
  const [server] = load(readFileSync('examples/playwright-rooted.yaml', 'utf8')).servers
  t.equal(server?.upstream.sessionRoot.enabled, true)
  const producer = server?.adapters.find(({ type }) => type === 'artifact_producer')
  t.match(producer, { outputLocator: { mode: 'directory' }, outputPathArgument: null })
})

t.test('roots imply a stream to ask for them on', async (t) => {
  const config = load(
    server('{enabled: true, sessions_path: " /mnt "}', 'output_locator: {mode: directory}'),
  )
  const [rooted] = config.servers
  t.match(rooted?.upstream, {
    holdStream: true,
    sessionRoot: { enabled: true, sessionsPath: '/mnt' },
  })
  t.equal(load(server('{}')).servers[0]?.upstream.holdStream, false)
})
