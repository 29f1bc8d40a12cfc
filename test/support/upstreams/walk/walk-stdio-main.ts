/** The server of the client walk on standard input and output. */
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js'

import { createWalkInstance } from './walk-instance.ts'

await createWalkInstance().connect(new StdioServerTransport())
