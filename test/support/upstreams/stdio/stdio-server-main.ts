/**
 * A real MCP server on standard input and output: the tools of the file server, and some that tell of the process or harm it. The first argument is the
 * workspace, the second how it misbehaves.
 */
import { spawn } from 'node:child_process'

import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js'
import { z } from 'zod'

import { createFileInstance } from '../files/file-instance.ts'
import { textResult } from '../files/file-tools.ts'

const [, , workspace = '.', manner = 'well'] = process.argv

if (manner === 'exits') process.exit(3)
if (manner === 'stubborn') {
  process.on('SIGTERM', () => process.stderr.write('not yet\n'))
  setInterval(() => {}, 1_000)
}
if (manner === 'hangs') setInterval(() => {}, 1_000)
if (manner === 'chatty') process.stdout.write('Welcome to the server!\n{not json\n\n[1, 2]\n')

const server = createFileInstance({ workspace, hasResources: true })

server.registerTool('process', { description: 'Tells of the process' }, () =>
  textResult(
    JSON.stringify({
      pid: process.pid,
      cwd: process.cwd(),
      env: process.env,
      args: process.argv.slice(2),
    }),
  ),
)
server.registerTool(
  'die',
  {
    description: 'Ends the process in the middle of the call',
    inputSchema: { signal: z.string() },
  },
  ({ signal }) => {
    process.kill(process.pid, signal)
    return new Promise<never>(() => {})
  },
)
server.registerTool(
  'complain',
  { description: 'Writes to standard error', inputSchema: { text: z.string() } },
  ({ text }) => {
    process.stderr.write(text)
    return textResult('done')
  },
)
server.registerTool('descend', { description: 'Starts a process that stays' }, () => {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' })
  return textResult(String(child.pid))
})
server.registerTool(
  'inflate',
  { description: 'Takes memory', inputSchema: { mebibytes: z.number() } },
  ({ mebibytes }) => {
    const taken = Buffer.alloc(mebibytes * 1_048_576, 1)
    setInterval(() => taken.fill(2), 1_000)
    return textResult('taken')
  },
)
server.registerTool(
  'long',
  { description: 'Answers much', inputSchema: { bytes: z.number() } },
  ({ bytes }) => textResult('x'.repeat(bytes)),
)
server.registerTool('ask', { description: 'Asks the user for a name' }, async (extra) => {
  const answer = await server.server.elicitInput(
    {
      message: 'What is your name?',
      requestedSchema: { type: 'object', properties: { name: { type: 'string' } } },
    },
    { signal: extra.signal },
  )
  return textResult(`Hello ${String(answer.content?.['name'])}`)
})
server.registerTool('wait', { description: 'Waits until it is cancelled' }, async (extra) => {
  process.stderr.write('waiting\n')
  await new Promise<void>((resolve) => {
    extra.signal.addEventListener('abort', () => resolve())
  })
  process.stderr.write('cancelled\n')
  return textResult('cancelled')
})
server.registerTool('grow', { description: 'Adds a tool' }, () => {
  server.registerTool('grown', { description: 'Was added' }, () => textResult('grown'))
  return textResult('done')
})

if (manner !== 'hangs') await server.connect(new StdioServerTransport())
