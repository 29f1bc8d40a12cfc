/** The whole configuration file. */

import { z } from 'zod'

import { artifactsSchema } from './artifacts.ts'
import { coreSchema } from './core.ts'
import { section } from './fields.ts'
import { serverSchema } from './servers.ts'
import { sessionsSchema } from './sessions.ts'
import { statePersistenceSchema } from './state-persistence.ts'
import { storageSchema } from './storage.ts'
import { telemetrySchema } from './telemetry.ts'
import { uploadsSchema } from './uploads.ts'

/** The configuration file as a zod schema: snake_case in, snake_case with defaults out. */
export const documentSchema = section({
  core: coreSchema.prefault({}).describe('The listener, process-wide limits and defaults.'),
  state_persistence: statePersistenceSchema.prefault({}).describe('Where session state lives.'),
  storage: storageSchema.prefault({}).describe('The directory of uploads and artifacts.'),
  sessions: sessionsSchema.prefault({}).describe('Limits and lifetimes of sessions.'),
  uploads: uploadsSchema.prefault({}).describe('Files from clients.'),
  artifacts: artifactsSchema.prefault({}).describe('Files made by tools.'),
  telemetry: telemetrySchema.prefault({}).describe('Metrics and logs over OTLP.'),
  servers: z.array(serverSchema).min(1).describe('The upstream MCP servers, at least one.'),
})

/** A configuration file with all defaults filled in, before inheritance. */
export type ConfigDocument = z.output<typeof documentSchema>
