/** How the parts of a wrapped tool call give up: with words for the model, not with a protocol error. */

/** Ends a wrapped call with a tool result that has `isError`; the message is what the model reads. */
export class ToolRefusal extends Error {
  override readonly name = 'ToolRefusal'
}
