/** What a replica shows at `/metrics`. */

/** The sum of a metric, over label sets that hold all of `labels`; 0 where it is not shown. */
export async function shown(
  url: string,
  name: string,
  ...labels: readonly string[]
): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  return [...text.matchAll(new RegExp(`^${name}\\{([^}]*)\\} (\\S+)$`, 'gm'))]
    .filter(([, had = '']) => labels.every((label) => had.includes(label)))
    .reduce((sum, [, , value]) => sum + Number(value), 0)
}
