/** Mistakes in `servers`: all are found, and each is reported with its place and remedy. */

import t from 'tap'

import { problems } from './config-loading.ts'

/** A file with one server, whose fields are given. */
function server(fields: string): string {
  return `servers: [{${fields}}]`
}

t.test('servers are checked for ids, addresses and patterns that could not work', async (t) => {
  const url = 'upstream: {url: "http://u/mcp"}'
  const cases: [yaml: string, path: string, message: RegExp][] = [
    ['servers: []', 'servers', /at least 1 entry/],
    ['{}', 'servers', /is required and must be a list/],
    [server(`id: "..", mount_path: /a, ${url}`), 'servers[0].id', /not \. or \.\./],
    [server(`id: "${'x'.repeat(65)}", mount_path: /a, ${url}`), 'servers[0].id', /1 to 64/],
    [server(`id: a, mount_path: /, ${url}`), 'servers[0].mount_path', /must not be blank/],
    [server('id: a, mount_path: /a, upstream: {url: "ws://u"}'), 'servers[0].upstream.url', /http/],
    [
      server('id: a, mount_path: /a, upstream: {url: "http://"}'),
      'servers[0].upstream.url',
      /http/,
    ],
    [
      server('id: a, mount_path: /a, upstream: {url: "http://u", static_headers: {"x:": y}}'),
      'servers[0].upstream.static_headers.x:',
      /header name/,
    ],
    [
      server(
        'id: a, mount_path: /a, upstream: {url: "http://u", client_headers: {required: ["x y"]}}',
      ),
      'servers[0].upstream.client_headers.required[0]',
      /header name/,
    ],
    [
      server(
        `id: a, mount_path: /a, ${url}, adapters: [{type: upload_consumer, tools: [], file_path_argument: p}]`,
      ),
      'servers[0].adapters[0].tools',
      /at least 1/,
    ],
    [
      server(`id: a, mount_path: /a, ${url}, adapters: [{tools: [b]}]`),
      'servers[0].adapters[0].type',
      /is required/,
    ],
    [
      server(
        `id: a, mount_path: /a, ${url}, adapters: [{type: artifact_producer, tools: [b], output_locator: {output_path_regexes: ["(?<x>a)", "(?=b)a"]}}]`,
      ),
      'servers[0].adapters[0].output_locator.output_path_regexes[1]',
      /linear time \(RE2\): .*\(\?=/,
    ],
    [
      server(`id: a, mount_path: /a, ${url}, disabled_tools: [plain, 'ok_.*', "x["]`),
      'servers[0].disabled_tools[2]',
      /linear time \(RE2\): missing closing \]/,
    ],
    [
      server(`id: a, mount_path: /a, ${url}, disabled_tools: ['(a)\\1']`),
      'servers[0].disabled_tools[0]',
      /back-references/,
    ],
  ]
  for (const [yaml, path, message] of cases) t.match(problems(yaml), [{ path, message }], yaml)
})
