/** Opens the socket of an app. */
import { EXCLUSIVE_PORT } from './native.ts'
import type { NativeListener, TemplatedApp, us_listen_socket } from './native.ts'

/** A socket that takes connections, and its port. */
export interface Listening {
  readonly socket: us_listen_socket
  readonly port: number
}

/** Listens; with port 0 the system chooses one. Rejects with an error that says what is wrong: `what` tells for whom the address is, and may be empty. */
export function listenOn(
  { uws }: NativeListener,
  app: TemplatedApp,
  { host, port }: { readonly host: string; readonly port: number },
  what = '',
): Promise<Listening> {
  return new Promise((resolve, reject) => {
    app.listen(host, port, EXCLUSIVE_PORT, (socket) => {
      if (socket !== false) {
        resolve({ socket, port: uws.us_socket_local_port(socket) })
        return
      }
      reject(
        new Error(
          `can't listen ${what}on ${host}:${port}: the address is in use, not on this machine, or the port needs privileges`,
        ),
      )
    })
  })
}
