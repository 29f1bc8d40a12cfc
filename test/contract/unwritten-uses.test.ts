import t from 'tap'

import { prepareSchema } from '../../src/shared/state/schema.ts'
import { SqlDatabase } from '../../src/shared/state/sql-database.ts'
import { UnwrittenUses } from '../../src/shared/state/unwritten-uses.ts'

t.test('uses count before they are written, and only ever move forward', (t) => {
  const db = new SqlDatabase(':memory:')
  t.teardown(() => db.close())
  prepareSchema(db)
  db.exec(`INSERT INTO sessions (id, server_id, session_id, record, state, last_accessed_ms)
    VALUES (1, 'docs', 'a', '{}', 0, 100), (2, 'docs', 'b', '{}', 0, 900)`)
  const uses = new UnwrittenUses()
  t.equal(uses.isEmpty, true)
  uses.noteSession(1, 500)
  uses.noteSession(1, 400)
  uses.noteSession(2, 500)
  uses.noteItem(1, 700)
  t.equal(uses.isEmpty, false)
  t.equal(uses.sessionUse(1, 100), 500, 'the later of two')
  t.equal(uses.sessionUse(2, 900), 900, 'what was written later than it was noted')
  t.equal(uses.sessionUse(3, 50), 50, 'nothing noted')
  t.equal(uses.itemUse(1, 600), 700, 'items are not sessions')
  uses.write(db)
  t.equal(uses.isEmpty, true)
  t.strictSame(db.all('SELECT id, last_accessed_ms FROM sessions ORDER BY id'), [
    [1, 500],
    [2, 900],
  ])
  t.end()
})

t.test('more rows than are kept apart ask to be written', (t) => {
  const uses = new UnwrittenUses()
  for (let row = 0; row < 4_095; row++) uses.noteItem(row, 1)
  t.equal(uses.isFull, false)
  uses.noteSession(1, 1)
  t.equal(uses.isFull, true)
  t.end()
})
