/** Server sections of the adapter's configuration for `stdio-server-main.ts`. */
import { fileURLToPath } from 'node:url'

const MAIN = fileURLToPath(new URL('stdio-server-main.js', import.meta.url))

/** A server with this id, mounted at `/mcp/<id>`, that behaves as told. `more` goes to the section `upstream`. */
export function stdioSection(
  id: string,
  options: {
    readonly workspace: string
    readonly manner?: string
    readonly more?: Readonly<Record<string, unknown>>
  },
): Readonly<Record<string, unknown>> {
  const { workspace, manner = 'well', more = {} } = options
  return {
    id,
    mount_path: `/mcp/${id}`,
    upstream: {
      transport: 'stdio',
      command: process.execPath,
      args: [MAIN, workspace, manner],
      workspace_root: workspace,
      ...more,
    },
    adapters: [
      { type: 'upload_consumer', tools: ['read_file'], file_path_argument: 'path' },
      {
        type: 'artifact_producer',
        tools: ['write_report'],
        output_path_argument: 'filename',
        output_locator: { mode: 'regex' },
      },
    ],
  }
}
