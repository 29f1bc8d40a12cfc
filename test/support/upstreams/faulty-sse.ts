// The faulty upstream of the fault matrix over HTTP+SSE (2024-11-05): answers come as events of one stream for each session.

import { createServer } from 'node:http'
import type { Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

import { OPERATIONS, resultOf } from './faulty-upstream.ts'
import type { Fault, FaultyUpstream, Operation } from './faulty-upstream.ts'

const DRIP_MS = 100

/** Starts one. A fault concerns the POST of a request, or what comes of it on the stream. */
export async function startFaultySse(): Promise<FaultyUpstream> {
  const sockets = new Set<Socket>()
  const streams = new Map<string, ServerResponse>()
  let failing: { readonly operation: Operation; readonly fault: Fault } | undefined
  let minted = 0
  let arrived = 0
  let port = 0
  let server: Server | undefined

  const die = (): Promise<void> => {
    const dead = server
    server = undefined
    return new Promise((resolve) => {
      if (dead === undefined) resolve()
      else dead.close(() => resolve())
      for (const socket of sockets) socket.resetAndDestroy()
    })
  }
  const take = (id: string, text: string, response: ServerResponse): void => {
    const message = JSON.parse(text) as { id?: unknown; method?: string } // the adapter sends JSON
    const stream = streams.get(id)
    if (stream === undefined) {
      response.writeHead(404).end()
      return
    }
    const operation = OPERATIONS.find((one) => one === message.method)
    if (operation !== undefined && operation === failing?.operation) {
      arrived++
      misbehave(failing.fault, response, stream)
      if (failing.fault === 'killed') void die()
      return
    }
    response.writeHead(202).end()
    if (message.id === undefined) return
    const answer = { jsonrpc: '2.0', id: message.id, result: resultOf(message.method) }
    stream.write(`event: message\ndata: ${JSON.stringify(answer)}\n\n`)
  }
  const listen = async (): Promise<void> => {
    const opened = createServer((request, response) => {
      const { method, url = '' } = request
      if (method === 'GET') {
        const id = String(++minted)
        streams.set(id, response)
        response.on('close', () => streams.delete(id))
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        response.write(`event: endpoint\ndata: /messages?session=${id}\n\n`)
        return
      }
      const parts: Buffer[] = []
      request.on('data', (part: Buffer) => parts.push(part))
      request.on('end', () =>
        take(url.split('=')[1] ?? '', Buffer.concat(parts).toString('utf8'), response),
      )
    })
    opened.on('connection', (socket) => {
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket)).on('error', () => {})
    })
    await new Promise<void>((resolve, reject) => {
      opened.once('error', reject)
      opened.listen(port, '127.0.0.1', resolve)
    })
    const address = opened.address()
    if (address === null || typeof address === 'string')
      throw new Error('a TCP listener has a port')
    port = address.port
    server = opened
  }

  await listen()
  return {
    section: { transport: 'sse', url: `http://127.0.0.1:${port}/sse` },
    fail: async (operation, fault) => {
      failing = { operation, fault }
      arrived = 0
      if (fault === 'refuses' || fault === 'restarts') await die()
      if (fault === 'restarts') {
        failing = undefined
        await listen()
      }
    },
    heal: async () => {
      failing = undefined
      if (server === undefined) await listen()
    },
    arrived: () => arrived,
    busy: () => streams.size,
    stop: die,
  }
}

function misbehave(fault: Fault, response: ServerResponse, stream: ServerResponse): void {
  const words = 'the words of the upstream'
  switch (fault) {
    case 'status 404':
    case 'status 401':
    case 'status 429':
    case 'status 500':
      response.writeHead(Number(fault.slice('status '.length))).end(words)
      return
    case 'garbage':
      response.socket?.end('hello, this is not HTTP\r\n\r\n')
      return
    case 'drips': {
      response.writeHead(202).end()
      const timer = setInterval(() => stream.write(': ping\n\n'), DRIP_MS)
      stream.on('close', () => clearInterval(timer))
      return
    }
    case 'resets':
      response.writeHead(202).end()
      stream.write('data: {"jsonrpc"', () => setTimeout(() => stream.socket?.resetAndDestroy(), 20))
      return
    case 'nonsense':
      response.writeHead(202).end()
      stream.write(`data: ${words}\n\n`)
      return
    case 'head':
      response.writeHead(202).end()
      return
    case 'hangs':
    case 'killed':
    case 'refuses':
    case 'restarts':
    // The POST is not answered.
  }
}
