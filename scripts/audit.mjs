// `npm run audit`: asks the registry for known vulnerabilities of what is shipped. Findings fail unless they are explained below; a registry that can't be
// asked (no network, a mirror without that endpoint) is told and does not fail, as it says nothing about the packages.

import { spawnSync } from 'node:child_process'

import { projectRoot, runMain, say } from './setup.mjs'

const LIMIT_MS = 60_000
/** Advisories that stay, by their id (`GHSA-…`), with the reason. docs/dependencies.md says the same at length. */
const EXPLAINED = new Map([])

await runMain(() => {
  const { stdout, error } = spawnSync('npm', ['audit', '--omit=dev', '--json'], {
    cwd: projectRoot,
    encoding: 'utf8',
    timeout: LIMIT_MS,
  })
  const report = parsed(stdout)
  if (error !== undefined || report?.vulnerabilities === undefined) {
    const why = error?.message ?? report?.message ?? 'no answer that could be read'
    say(
      `Vulnerabilities were NOT looked up: the registry's audit endpoint can't be asked (${why}).`,
    )
    return 0
  }
  const advisories = Object.values(report.vulnerabilities).flatMap(({ name, via }) =>
    via.filter((one) => typeof one === 'object').map(({ url, title }) => ({ name, url, title })),
  )
  const open = advisories.filter(({ url }) => !EXPLAINED.has(url.split('/').at(-1)))
  for (const { name, url, title } of open) say(`${name}: ${title} (${url})`)
  say(
    `npm audit: ${advisories.length} advisories for what is shipped, ${open.length} of them not explained`,
  )
  return open.length === 0 ? 0 : 1
})

function parsed(text) {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
