// Tools that read and write real files, in the argument and answer shapes that servers in the wild have.

import type { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import type { CallToolResult } from '@modelcontextprotocol/sdk/types.js'
import { createHash } from 'node:crypto'
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'

/** What `read_file` and its kin say of a file, as JSON text. */
export interface FileReport {
  readonly path: string
  readonly size: number
  /** Hex digest of the bytes. */
  readonly sha256: string
}

/** Registers the tools that take or make files; `workspace` is the directory of those that choose a place themselves. */
export function registerFileTools(server: McpServer, workspace: string): void {
  registerReaders(server)
  registerWriters(server)
  registerWorkspaceWriters(server, workspace)
}

function registerReaders(server: McpServer): void {
  server.registerTool(
    'read_file',
    { description: 'Reports size and digest of a file', inputSchema: { path: z.string() } },
    async ({ path }) => textResult(JSON.stringify(await reportFile(path))),
  )
  server.registerTool(
    'read_files',
    {
      description: 'Reports size and digest of files',
      inputSchema: { paths: z.array(z.string()) },
    },
    async ({ paths }) => textResult(JSON.stringify(await Promise.all(paths.map(reportFile)))),
  )
  const nested = { input: z.object({ file: z.object({ path: z.string() }) }) }
  server.registerTool(
    'read_nested',
    {
      description: 'Reports size and digest of a file named deep in the arguments',
      inputSchema: nested,
    },
    async ({ input }) => textResult(JSON.stringify(await reportFile(input.file.path))),
  )
}

function registerWriters(server: McpServer): void {
  server.registerTool(
    'write_report',
    {
      description: 'Writes a file at the given path',
      inputSchema: { filename: z.string().optional(), content: z.string().optional() },
    },
    async ({ filename, content = 'report' }) => {
      if (filename === undefined) return textResult('No file was written')
      await writeInto(filename, content)
      return textResult(`Saved the report to ${filename}`)
    },
  )
  server.registerTool(
    'symlink_output',
    {
      description: 'Makes a symbolic link at the given path',
      inputSchema: { filename: z.string(), target: z.string() },
    },
    async ({ filename, target }) => {
      await mkdir(dirname(filename), { recursive: true })
      await symlink(target, filename)
      return textResult(`Saved to ${filename}`)
    },
  )
}

function registerWorkspaceWriters(server: McpServer, workspace: string): void {
  server.registerTool(
    'write_elsewhere',
    {
      description: 'Writes where it likes and answers with a link',
      inputSchema: { content: z.string().optional() },
    },
    async ({ content = 'elsewhere' }) => {
      await writeInto(join(workspace, 'out', 'report.txt'), content)
      return textResult('The report is ready: [Report](out/report.txt)')
    },
  )
  server.registerTool(
    'structured_output',
    {
      description: 'Names its file in structured content',
      inputSchema: { content: z.string().optional() },
    },
    async ({ content = 'structured' }) => {
      const file = join(workspace, 'out', 'structured.txt')
      await writeInto(file, content)
      return { ...textResult('Done'), structuredContent: { result: { file } } }
    },
  )
}

/** A tool result with one text block. */
export function textResult(text: string): CallToolResult {
  return { content: [{ type: 'text', text }] }
}

async function reportFile(path: string): Promise<FileReport> {
  const bytes = await readFile(path)
  return { path, size: bytes.byteLength, sha256: createHash('sha256').update(bytes).digest('hex') }
}

async function writeInto(path: string, content: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, content)
}
