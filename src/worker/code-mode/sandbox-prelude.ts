/**
 * The part of a sandbox that is written in its own language: what a script can call. It takes what it needs of the built-in objects before the script
 * can change them, and nothing of the host's but two functions that take and give text.
 */
export const PRELUDE = `(function (hostCall, hostPrint) {
  'use strict'
  const { stringify, parse } = JSON
  const text = String
  class ToolError extends Error {
    constructor(message, result) {
      super(message)
      this.name = 'ToolError'
      this.result = result
    }
  }
  const callTool = async function callTool(tool, args = {}) {
    const { stack } = new Error()
    if (typeof tool !== 'string') throw new TypeError('callTool takes the name of a tool and an object with its arguments')
    const json = stringify(args)
    if (typeof json !== 'string' || json[0] !== '{') throw new TypeError('the arguments of a tool are an object')
    const answer = parse(await hostCall(tool, json))
    if (answer.error === undefined) return answer.result
    const error = new ToolError(answer.error.message, answer.error.result)
    error.stack = stack
    throw error
  }
  const show = (value) => {
    if (typeof value === 'string') return value
    if (value instanceof Error) return text(value)
    try {
      return stringify(value) ?? text(value)
    } catch {
      return text(value)
    }
  }
  const print = (...values) => hostPrint(values.map(show).join(' '))
  globalThis.callTool = callTool
  globalThis.call_tool = callTool
  globalThis.ToolError = ToolError
  globalThis.console = { log: print, info: print, warn: print, error: print, debug: print }
  return {
    toJson: (value) => stringify(value),
    describe: (error) => {
      if (typeof error !== 'object' || error === null || !('message' in error)) return text(error)
      return text(error.name) + ': ' + text(error.message) + '\\n' + text(error.stack ?? '')
    },
  }
})`
