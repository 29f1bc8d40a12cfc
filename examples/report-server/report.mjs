// Reads a text or CSV file and says what is in it; as data, as Markdown, or as an HTML page.

/** The text of a file; throws when it is not text in UTF-8. */
export function textOf(bytes) {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new Error('the file is not text in UTF-8')
  }
}

/** Counts of a text, and for a CSV table (two columns or more, all rows alike) its columns: numbers with minimum, maximum and mean, else distinct values. */
export function summarize(name, text) {
  const summary = {
    name,
    bytes: Buffer.byteLength(text),
    lines: text === '' ? 0 : text.replace(/\n$/, '').split('\n').length,
    words: text.match(/\S+/g)?.length ?? 0,
  }
  const [header, ...rows] = parseCsv(text)
  const isTable = header !== undefined && header.length > 1 && rows.length > 0
  if (!isTable || rows.some((row) => row.length !== header.length)) return summary
  const columns = header.map((title, index) =>
    describeColumn(
      title,
      rows.map((row) => row[index]),
    ),
  )
  return { ...summary, rows: rows.length, columns }
}

/** The summary as a Markdown document. */
export function toMarkdown(summary) {
  const lines = [`# Report: ${escapeMarkdown(summary.name)}`, '']
  for (const [label, value] of facts(summary)) lines.push(`- ${label}: ${value}`)
  if (summary.columns !== undefined) {
    lines.push('', '| Column | Filled | What is in it |', '| --- | --- | --- |')
    for (const column of summary.columns) {
      const cells = [column.title, column.filled, describe(column)]
      lines.push(`| ${cells.map((cell) => escapeMarkdown(String(cell))).join(' | ')} |`)
    }
  }
  return `${lines.join('\n')}\n`
}

/** The summary as an HTML page. */
export function toHtml(summary) {
  const title = `Report: ${escapeHtml(summary.name)}`
  const items = facts(summary).map(([label, value]) => `<li>${label}: ${value}</li>`)
  const rows = (summary.columns ?? []).map(
    (column) =>
      `<tr><td>${escapeHtml(column.title)}</td><td>${column.filled}</td><td>${escapeHtml(describe(column))}</td></tr>`,
  )
  const table =
    rows.length === 0
      ? ''
      : `<table>\n<tr><th>Column</th><th>Filled</th><th>What is in it</th></tr>\n${rows.join('\n')}\n</table>\n`
  return `<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>${title}</title>\n<h1>${title}</h1>\n<ul>\n${items.join('\n')}\n</ul>\n${table}</html>\n`
}

/** Rows of cells by RFC 4180: quotes around a cell, a doubled quote inside them, and line breaks inside quotes. Empty lines are no rows. */
export function parseCsv(text) {
  const rows = []
  let row = []
  let at = 0
  while (at < text.length) {
    const [cell, end] = text[at] === '"' ? quotedCell(text, at) : plainCell(text, at)
    row.push(cell)
    at = end + 1
    if (text[end] === ',' && at < text.length) continue
    if (text[end] === ',') row.push('')
    if (row.length > 1 || row[0] !== '') rows.push(row)
    row = []
  }
  return rows
}

/** Both answer the cell and where its comma or line break stands. */
function plainCell(text, start) {
  let end = start
  while (end < text.length && text[end] !== ',' && text[end] !== '\n') end++
  return [text.slice(start, end).replace(/\r$/, ''), end]
}

function quotedCell(text, start) {
  let end = text.indexOf('"', start + 1)
  while (end !== -1 && text[end + 1] === '"') end = text.indexOf('"', end + 2)
  if (end === -1) end = text.length
  const cell = text.slice(start + 1, end).replaceAll('""', '"')
  const [rest, next] = plainCell(text, end + 1)
  return [cell + rest, next]
}

function describeColumn(title, cells) {
  const filled = cells.filter((cell) => cell.trim() !== '')
  const numbers = filled.map(Number)
  if (filled.length === 0 || !numbers.every(Number.isFinite)) {
    return { title, filled: filled.length, distinct: new Set(filled).size }
  }
  // Not Math.min(...numbers): a file has more rows than a call takes arguments.
  const sum = numbers.reduce((total, number) => total + number, 0)
  return {
    title,
    filled: filled.length,
    min: numbers.reduce((least, number) => Math.min(least, number)),
    max: numbers.reduce((most, number) => Math.max(most, number)),
    mean: Math.round((sum / numbers.length) * 100) / 100,
  }
}

function describe(column) {
  return column.mean === undefined
    ? `${column.distinct} different values`
    : `numbers from ${column.min} to ${column.max}, mean ${column.mean}`
}

function facts({ bytes, lines, words, rows, columns }) {
  const all = [
    ['Bytes', bytes],
    ['Lines', lines],
    ['Words', words],
  ]
  return rows === undefined ? all : [...all, ['Rows', rows], ['Columns', columns.length]]
}

function escapeMarkdown(text) {
  return text.replace(/[\\`*_|<>[\]#]/g, '\\$&').replace(/\s+/g, ' ')
}

function escapeHtml(text) {
  return text.replace(/[&<>"]/g, (character) => `&#${character.codePointAt(0)};`)
}
