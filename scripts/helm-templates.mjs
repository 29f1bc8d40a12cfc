// What can be said of a Helm chart without Helm: its actions balance, and it uses the values and templates that exist, all of them.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Actions, without comments. `[^]` because an action may go over lines. */
const ACTION = /\{\{-?\s*([^]*?)\s*-?\}\}/g
const VALUE = /(?:\$)?\.Values((?:\.[A-Za-z_]\w*)+)/g
const OPENS = /^(?:if|with|range|define|block)\b/

/** Problems of a chart's templates. `values` are those of values.yaml. */
export function templateProblems(folder, values) {
  const problems = []
  const texts = readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), 'utf8')])
  const defined = new Set(
    texts.flatMap(([, text]) => [...text.matchAll(/define "([^"]+)"/g)].map(([, name]) => name)),
  )
  const included = new Set()
  const used = new Set()
  for (const [name, text] of texts) {
    problems.push(...balanceProblems(text).map((problem) => `${name}: ${problem}`))
    for (const [, path] of text.matchAll(VALUE)) {
      used.add(path.slice(1))
      if (!has(values, path.slice(1).split('.')))
        problems.push(`${name}: .Values${path} is not in values.yaml`)
    }
    for (const [, template] of text.matchAll(/include "([^"]+)"/g)) {
      included.add(template)
      if (!defined.has(template)) problems.push(`${name}: no template is called ${template}`)
    }
    if (text.includes('\t')) problems.push(`${name}: has a tab`)
  }
  for (const template of defined)
    if (!included.has(template)) problems.push(`template ${template} is not used`)
  for (const path of leaves(values)) {
    const isUsed = [...used].some((one) => path === one || path.startsWith(`${one}.`))
    if (!isUsed) problems.push(`values.yaml: ${path} is used by no template`)
  }
  return problems
}

function balanceProblems(text) {
  const open = []
  const problems = []
  const opened = text.split('{{').length
  const closed = text.split('}}').length
  if (opened !== closed) problems.push(`${opened - 1} times {{ and ${closed - 1} times }}`)
  for (const [, action] of text.matchAll(ACTION)) {
    if (action.startsWith('/*')) continue
    if (count(action, '(') !== count(action, ')')) problems.push(`brackets of {{ ${action} }}`)
    if (count(action, '"') % 2 !== 0) problems.push(`quotes of {{ ${action} }}`)
    if (OPENS.test(action)) open.push(action)
    else if (action === 'end' && open.pop() === undefined) problems.push('an end without beginning')
    else if (/^else\b/.test(action) && open.length === 0) problems.push('an else without if')
  }
  return [...problems, ...open.map((action) => `{{ ${action} }} has no end`)]
}

function count(text, part) {
  return text.split(part).length - 1
}

function has(node, [name, ...rest]) {
  if (name === undefined) return true
  return isMap(node) && Object.hasOwn(node, name) && has(node[name], rest)
}

/** Paths of values that are no maps, or empty ones. */
function leaves(node, path = '') {
  if (!isMap(node) || Object.keys(node).length === 0) return [path]
  return Object.entries(node).flatMap(([name, value]) =>
    leaves(value, path === '' ? name : `${path}.${name}`),
  )
}

function isMap(node) {
  return typeof node === 'object' && node !== null && !Array.isArray(node)
}
