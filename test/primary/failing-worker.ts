/** A worker thread that says it is ready and ends, again and again. */
import { BroadcastChannel, workerData } from 'node:worker_threads'

import { FrameChannel } from '../../src/shared/frames/channel.ts'
import type { WorkerOptions } from '../../src/shared/worker-options.ts'

const { framePort } = workerData as WorkerOptions // the supervisor passes them
const starts = new BroadcastChannel('starts')
starts.postMessage('started')
new FrameChannel(framePort, () => {}).send(['control.ready'])
setTimeout(() => process.exit(1), 20)
