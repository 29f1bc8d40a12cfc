/** P11: from starting the process, in a fresh directory and with the upstream up, to its first 200 from /readyz. */
import { median } from '../support/statistics.ts'
import type { Scenario } from './scenario.ts'

/** See the file comment. */
export const start: Scenario = {
  name: 'start',
  rows: ['P11'],
  async run(bench) {
    const seconds: number[] = []
    for (let turn = 0; turn < bench.scale.starts; turn++) {
      // oxlint-disable-next-line no-await-in-loop -- starts don't compete
      const replica = await bench.replica()
      seconds.push(replica.readyInMs / 1_000)
      // oxlint-disable-next-line no-await-in-loop
      await replica.stop()
    }
    const range = `${Math.min(...seconds).toFixed(2)}–${Math.max(...seconds).toFixed(2)} s`
    return {
      measured: [
        {
          row: 'P11',
          values: { median: median(seconds) },
          notes: [`${seconds.length} starts, ${range}`],
        },
      ],
      details: [],
    }
  },
}
