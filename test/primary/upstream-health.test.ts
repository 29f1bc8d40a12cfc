// When a replica that starts is ready, and what health tells of its upstreams, by a clock that the test moves.
import t from 'tap'

import { loadConfig } from '../shared/config-loading.ts'
