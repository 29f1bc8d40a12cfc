import t from 'tap'

import { startRedis, startRedisCluster } from '../support/redis.ts'
import { redisOpener } from './redis-subject.ts'
import { stateStoreContract } from './state-store.contract.ts'

t.test('on one server', async (t) => {
  const server = await startRedis(t)
  stateStoreContract(t, redisOpener([server]))
})

t.test('on a cluster', async (t) => {
  const servers = await startRedisCluster(t)
  stateStoreContract(t, redisOpener(servers))
})
