/** What is used of WebAssembly: Node has it, and its types for Node 20 have not. */
declare namespace WebAssembly {
  class Module {
    private readonly compiled: true
  }
  class Memory {
    constructor(limits: { readonly initial: number; readonly maximum: number })
    readonly buffer: ArrayBuffer
  }
  class Instance {
    readonly exports: object
  }
  type Imports = Readonly<Record<string, Readonly<Record<string, unknown>>>>
  type Exports = object
  function compile(bytes: Uint8Array): Promise<Module>
}
