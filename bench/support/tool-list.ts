/** The tools that the upstream lists: those that the scenarios call, then fillers of the size that real servers have. */

/** As many as a large real server has; about 100 KB of JSON. */
export const DEFAULT_TOOLS = 185

const TEXT = { type: 'string' }

const CALLED = [
  tool('echo', 'Answers a short text', { text: TEXT }),
  tool('consume', 'Takes a file', { input: TEXT }),
  tool('produce', 'Makes a file', { output: TEXT }),
  tool('convert', 'Takes a file and makes one', { input: TEXT, output: TEXT }),
  tool('copy_big', 'Makes a large file', { output: TEXT }),
  tool('listing', 'Answers as much as the list of tools is long', {}),
]

/** The first `count` tools. */
export function toolList(count: number): readonly object[] {
  return Array.from({ length: count }, (_, index) => CALLED[index] ?? filler(index))
}

function filler(index: number): object {
  return tool(
    `operation_${index}`,
    `Performs operation ${index} on the current page and reports what changed. Use it after the page has loaded, never while a dialog is open, and look at the result before the next step.`,
    {
      target: {
        type: 'string',
        description: 'Which element to act on, as it is named in the latest snapshot',
      },
      amount: { type: 'integer', minimum: 0, maximum: 100 + index, description: 'How far to go' },
      modifiers: { type: 'array', items: { type: 'string', enum: ['Alt', 'Control', 'Shift'] } },
    },
  )
}

function tool(name: string, description: string, properties: object): object {
  return {
    name,
    description,
    inputSchema: { type: 'object', properties, additionalProperties: false },
  }
}
