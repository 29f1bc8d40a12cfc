/** The tables of the SQL state store, and how a database gets them. */
import type { SqlDatabase } from './sql-database.ts'

/** Kept in `PRAGMA user_version`; a database with a newer one is refused. */
export const SCHEMA_VERSION = 2

/** The tables that hold state, parents first. `totals` is derived from them. */
const STATE_TABLES = {
  sessions:
    'id, server_id, session_id, record, state, last_accessed_ms, tombstone_expires_ms, terminal_reason',
  items:
    'id, session, kind, item_id, pending, size_bytes, filename, mime_type, sha256, tool_name, expose, created_ms, last_accessed_ms',
  reservations: 'id, session, bytes, touched_ms',
  nonces: 'nonce, expires_ms',
  catalogues: 'session, pinned, drift',
} as const

/** Tables that came with version 2: what a session's tools are pinned to, and how they differ from that. */
const TABLES_2 = `
CREATE TABLE catalogues (session INTEGER PRIMARY KEY, pinned TEXT, drift TEXT) STRICT;
CREATE TRIGGER session_unpinned AFTER DELETE ON sessions BEGIN
  DELETE FROM catalogues WHERE session = OLD.id;
END;
`

/*
 * The sums are kept by triggers, so no statement can forget them and they change in the transaction that changes what they count.
 * `sessions.state`: 0 active, 1 tombstoned. A pending item counts no bytes.
 */
const TABLES = `
CREATE TABLE sessions (
  id INTEGER PRIMARY KEY,
  server_id TEXT NOT NULL,
  session_id TEXT NOT NULL,
  record TEXT NOT NULL,
  state INTEGER NOT NULL,
  last_accessed_ms INTEGER NOT NULL,
  tombstone_expires_ms INTEGER,
  terminal_reason TEXT,
  used_bytes INTEGER NOT NULL DEFAULT 0,
  reserved_bytes INTEGER NOT NULL DEFAULT 0,
  artifact_count INTEGER NOT NULL DEFAULT 0,
  UNIQUE (server_id, session_id)
) STRICT;
CREATE INDEX sessions_by_use ON sessions (last_accessed_ms) WHERE state = 0;
CREATE INDEX tombstones_by_expiry ON sessions (tombstone_expires_ms) WHERE state = 1;

CREATE TABLE items (
  id INTEGER PRIMARY KEY,
  session INTEGER NOT NULL,
  kind TEXT NOT NULL,
  item_id TEXT NOT NULL,
  pending INTEGER NOT NULL,
  size_bytes INTEGER NOT NULL,
  filename TEXT NOT NULL,
  mime_type TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  tool_name TEXT NOT NULL,
  expose INTEGER NOT NULL,
  created_ms INTEGER NOT NULL,
  last_accessed_ms INTEGER NOT NULL,
  UNIQUE (session, kind, item_id)
) STRICT;
CREATE INDEX items_by_use ON items (kind, last_accessed_ms) WHERE pending = 0;
CREATE INDEX session_items_by_use ON items (session, kind, last_accessed_ms) WHERE pending = 0;
CREATE INDEX pending_by_use ON items (last_accessed_ms) WHERE pending = 1;

CREATE TABLE reservations (
  id TEXT PRIMARY KEY,
  session INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  touched_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX reservations_by_session ON reservations (session);
CREATE INDEX reservations_by_use ON reservations (touched_ms);

CREATE TABLE nonces (nonce TEXT PRIMARY KEY, expires_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX nonces_by_expiry ON nonces (expires_ms);

CREATE TABLE totals (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  sessions INTEGER NOT NULL DEFAULT 0,
  tombstones INTEGER NOT NULL DEFAULT 0,
  uploads INTEGER NOT NULL DEFAULT 0,
  artifacts INTEGER NOT NULL DEFAULT 0,
  pending INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL DEFAULT 0,
  reserved_bytes INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO totals (id) VALUES (1);

CREATE TRIGGER session_added AFTER INSERT ON sessions BEGIN
  UPDATE totals SET sessions = sessions + (NEW.state = 0), tombstones = tombstones + (NEW.state = 1);
END;
CREATE TRIGGER session_changed AFTER UPDATE OF state ON sessions WHEN OLD.state <> NEW.state BEGIN
  UPDATE totals SET
    sessions = sessions + (NEW.state = 0) - (OLD.state = 0),
    tombstones = tombstones + (NEW.state = 1) - (OLD.state = 1);
END;
CREATE TRIGGER session_removed AFTER DELETE ON sessions BEGIN
  DELETE FROM items WHERE session = OLD.id;
  DELETE FROM reservations WHERE session = OLD.id;
  UPDATE totals SET sessions = sessions - (OLD.state = 0), tombstones = tombstones - (OLD.state = 1);
END;

CREATE TRIGGER item_added AFTER INSERT ON items BEGIN
  UPDATE sessions SET
    used_bytes = used_bytes + NEW.size_bytes,
    artifact_count = artifact_count + (NEW.kind = 'artifacts')
    WHERE id = NEW.session;
  UPDATE totals SET
    uploads = uploads + (NEW.kind = 'uploads'),
    artifacts = artifacts + (NEW.kind = 'artifacts' AND NEW.pending = 0),
    pending = pending + NEW.pending,
    bytes = bytes + NEW.size_bytes;
END;
CREATE TRIGGER item_changed AFTER UPDATE OF size_bytes, pending ON items BEGIN
  UPDATE sessions SET used_bytes = used_bytes + NEW.size_bytes - OLD.size_bytes WHERE id = NEW.session;
  UPDATE totals SET
    artifacts = artifacts + (NEW.kind = 'artifacts') * (OLD.pending - NEW.pending),
    pending = pending + NEW.pending - OLD.pending,
    bytes = bytes + NEW.size_bytes - OLD.size_bytes;
END;
CREATE TRIGGER item_removed AFTER DELETE ON items BEGIN
  UPDATE sessions SET
    used_bytes = used_bytes - OLD.size_bytes,
    artifact_count = artifact_count - (OLD.kind = 'artifacts')
    WHERE id = OLD.session;
  UPDATE totals SET
    uploads = uploads - (OLD.kind = 'uploads'),
    artifacts = artifacts - (OLD.kind = 'artifacts' AND OLD.pending = 0),
    pending = pending - OLD.pending,
    bytes = bytes - OLD.size_bytes;
END;

CREATE TRIGGER reservation_added AFTER INSERT ON reservations BEGIN
  UPDATE sessions SET reserved_bytes = reserved_bytes + NEW.bytes WHERE id = NEW.session;
  UPDATE totals SET reserved_bytes = reserved_bytes + NEW.bytes;
END;
CREATE TRIGGER reservation_changed AFTER UPDATE OF bytes ON reservations BEGIN
  UPDATE sessions SET reserved_bytes = reserved_bytes + NEW.bytes - OLD.bytes WHERE id = NEW.session;
  UPDATE totals SET reserved_bytes = reserved_bytes + NEW.bytes - OLD.bytes;
END;
CREATE TRIGGER reservation_removed AFTER DELETE ON reservations BEGIN
  UPDATE sessions SET reserved_bytes = reserved_bytes - OLD.bytes WHERE id = OLD.session;
  UPDATE totals SET reserved_bytes = reserved_bytes - OLD.bytes;
END;
`

/** The tables of state that a database of this version has. */
export function stateTables(version: number): readonly (readonly [string, string])[] {
  return Object.entries(STATE_TABLES).filter(([table]) => version >= 2 || table !== 'catalogues')
}

/** Creates the tables in an empty database, and those that an older one lacks; throws when the database has a newer schema than this version understands. */
export function prepareSchema(db: SqlDatabase): void {
  const version = schemaVersion(db, 'main')
  if (version > SCHEMA_VERSION) throw new NewerSchemaError(db.path, version)
  if (version === SCHEMA_VERSION) return
  db.transaction(true, () => {
    if (version === 0) db.exec(TABLES)
    db.exec(TABLES_2)
    db.exec(`PRAGMA user_version = ${SCHEMA_VERSION}`)
  })
}

/** The schema version of an attached database. */
export function schemaVersion(db: SqlDatabase, schema: 'main' | 'snapshot'): number {
  return db.get<readonly [number]>(`PRAGMA ${schema}.user_version`)?.[0] ?? 0
}

/** Drops what belongs to no session and computes every sum anew, so that an edit from outside can't make them wrong for good. */
export function recount(db: SqlDatabase): void {
  db.transaction(true, () => recountRows(db))
}

/** The same inside a transaction of the caller. */
export function recountRows(db: SqlDatabase): void {
  db.exec(`
      DELETE FROM items WHERE session NOT IN (SELECT id FROM sessions);
      DELETE FROM reservations WHERE session NOT IN (SELECT id FROM sessions);
      DELETE FROM catalogues WHERE session NOT IN (SELECT id FROM sessions);
      UPDATE sessions SET used_bytes = sums.used, reserved_bytes = sums.reserved, artifact_count = sums.artifacts
        FROM (
          SELECT id,
            (SELECT coalesce(sum(size_bytes), 0) FROM items WHERE session = s.id) AS used,
            (SELECT coalesce(sum(bytes), 0) FROM reservations WHERE session = s.id) AS reserved,
            (SELECT count(*) FROM items WHERE session = s.id AND kind = 'artifacts') AS artifacts
          FROM sessions AS s
        ) AS sums
        WHERE sums.id = sessions.id
          AND (used_bytes, reserved_bytes, artifact_count) IS NOT (sums.used, sums.reserved, sums.artifacts);
      UPDATE totals SET
        sessions = (SELECT count(*) FROM sessions WHERE state = 0),
        tombstones = (SELECT count(*) FROM sessions WHERE state = 1),
        uploads = (SELECT count(*) FROM items WHERE kind = 'uploads'),
        artifacts = (SELECT count(*) FROM items WHERE kind = 'artifacts' AND pending = 0),
        pending = (SELECT count(*) FROM items WHERE pending = 1),
        bytes = (SELECT coalesce(sum(size_bytes), 0) FROM items),
        reserved_bytes = (SELECT coalesce(sum(bytes), 0) FROM reservations);
    `)
}

/** The database was written by a newer version of this program. */
export class NewerSchemaError extends Error {
  override readonly name = 'NewerSchemaError'

  constructor(path: string, version: number) {
    super(
      `the state file ${path} has schema version ${version}, but this version understands up to ${SCHEMA_VERSION}: ` +
        'run the newer version, or move the file away to start empty',
    )
  }
}
