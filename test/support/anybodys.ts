/** The owners of sessions while authentication is off. */
import { SessionOwners } from '../../src/shared/principals.ts'

export const ANYBODYS = new SessionOwners({
  enabled: false,
  token: null,
  tokens: [],
  jwt: { issuer: null },
})
