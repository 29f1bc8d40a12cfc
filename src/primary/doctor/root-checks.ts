/** Looks at `storage.root`: whether it is there, writable, and a file system that files can be published on. */
import { randomBytes } from 'node:crypto'
import {
  access,
  constants,
  mkdir,
  open,
  readFile,
  rename,
  rm,
  stat,
  statfs,
} from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'

import { FileClock } from '../../shared/files/file-clock.ts'
import { ok, problem, reasonOf, warning, type Finding } from './finding.ts'

/** Names of file systems by their number in `statfs`, as in Linux' magic.h, and who else can see what is on them. */
const FILE_SYSTEMS: ReadonlyMap<number, { readonly name: string; readonly reach: Reach }> = new Map(
  [
    [0x01021994, { name: 'tmpfs', reach: 'memory' }],
    [0x858458f6, { name: 'ramfs', reach: 'memory' }],
    [0x794c7630, { name: 'overlay', reach: 'container' }],
    [0xef53, { name: 'ext4', reach: 'machine' }],
    [0x58465342, { name: 'xfs', reach: 'machine' }],
    [0x9123683e, { name: 'btrfs', reach: 'machine' }],
    [0x2fc12fc1, { name: 'zfs', reach: 'machine' }],
    [0x6969, { name: 'nfs', reach: 'network' }],
    [0xff534d42, { name: 'cifs', reach: 'network' }],
    [0xfe534d42, { name: 'smb2', reach: 'network' }],
    [0x00c36400, { name: 'ceph', reach: 'network' }],
    [0x0bd00bd0, { name: 'lustre', reach: 'network' }],
  ],
)

type Reach = 'memory' | 'container' | 'machine' | 'network'

/** Whether other machines can see the root, judged by what it is on. Null where that can't be told. */
export async function checkReach(root: string): Promise<Finding | null> {
  const subject = 'shared root'
  const found = await statfs(root).catch(() => undefined)
  const known = found === undefined ? undefined : FILE_SYSTEMS.get(found.type)
  if (known === undefined) return null
  const { name, reach } = known
  switch (reach) {
    case 'network':
      return ok(subject, `${root} is on ${name}, which machines can share`)
    case 'machine':
      return ok(subject, `${root} is on ${name}: fine while all replicas run on this machine`)
    case 'memory':
    case 'container':
      return warning(
        subject,
        `${root} is on ${name}, which ${reach === 'memory' ? 'is lost at a restart' : 'only this container has'}: mount a volume there that every replica mounts`,
      )
  }
}

/** Uses the root as the adapter does. `clock` is undefined when it could not be used. Cleans up. */
export async function checkRoot(
  root: string,
  { isShared }: { readonly isShared: boolean },
): Promise<{ readonly findings: readonly Finding[]; readonly clock: FileClock | undefined }> {
  const subject = 'storage root'
  const path = resolve(root)
  if (!(await exists(path))) {
    return { findings: [await checkMissing(path, isShared)], clock: undefined }
  }
  const directory = join(path, `.doctor-${randomBytes(9).toString('base64url')}`)
  try {
    await mkdir(directory)
    const fault = await findFault(directory)
    const findings = [
      fault === undefined
        ? ok(subject, `${path} can be written to, and renames there are atomic`)
        : problem(
            subject,
            `${path} can't be used: ${fault}; use a file system with POSIX semantics`,
          ),
    ]
    return { findings, clock: new FileClock(path) }
  } catch (error) {
    const advice = `give the user that runs the adapter (uid ${process.getuid?.() ?? 'unknown'}) the right to write there`
    const finding = problem(subject, `${path} can't be written to (${reasonOf(error)}); ${advice}`)
    return { findings: [finding], clock: undefined }
  } finally {
    await rm(directory, { recursive: true, force: true }).catch(() => undefined)
  }
}

async function checkMissing(path: string, isShared: boolean): Promise<Finding> {
  const subject = 'storage root'
  if (isShared) {
    return problem(
      subject,
      `${path} does not exist: mount the volume that all replicas share there`,
    )
  }
  let parent = dirname(path)
  // oxlint-disable-next-line no-await-in-loop -- upwards until there is something
  while (!(await exists(parent))) parent = dirname(parent)
  const refusal = await access(parent, constants.W_OK | constants.X_OK).then(
    () => undefined,
    (error: unknown) => reasonOf(error),
  )
  return refusal === undefined
    ? ok(subject, `${path} does not exist yet; it is created at the start`)
    : problem(subject, `${path} does not exist and can't be created (${refusal}); create it`)
}

/** Tries what publishing a file depends on; answers what does not work. */
async function findFault(directory: string): Promise<string | undefined> {
  const [first, second] = [join(directory, 'first'), join(directory, 'second')]
  await write(first, 'old')
  const reader = await open(first, 'r')
  try {
    await write(second, 'new')
    await rename(second, first)
    if ((await readFile(first, 'utf8')) !== 'new') return 'a rename does not replace a file'
    if ((await reader.readFile('utf8')) !== 'old')
      return 'a rename changes a file that is being read'
  } finally {
    await reader.close()
  }
  const twice = await open(first, 'wx').then(
    (handle) => handle.close().then(() => true),
    () => false,
  )
  return twice ? 'a file that must not exist can be created twice' : undefined
}

async function write(path: string, text: string): Promise<void> {
  const handle = await open(path, 'wx')
  try {
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
