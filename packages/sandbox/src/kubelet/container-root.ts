import { join, normalize } from 'node:path';

/** One thing to see inside a container. */
export interface RootMount {
  /** Path on the machine. */
  readonly source: string;
  /** Path in the container. */
  readonly target: string;
  readonly kind: 'directory' | 'file';
  readonly readOnly: boolean;
}

/** How to look at the machine's file system; absent answers mean: not there. */
export interface MachineFiles {
  list(path: string): readonly string[] | undefined;
  /** Target of a symbolic link. */
  link(path: string): string | undefined;
}

export interface RootPlan {
  /** Directories to make, parents first. */
  readonly directories: readonly string[];
  /** Files to make, as places to mount on. */
  readonly files: readonly string[];
  /** By directory, the entries of the machine's directory that show through it. */
  readonly shownThrough: ReadonlyMap<string, readonly string[]>;
  readonly mounts: readonly RootMount[];
}

const ownDirectories = ['/proc', '/sys', '/dev', '/run', '/tmp', '/root', '/.host'];
const maxLinks = 40;

/**
 * Plans a container's root: the machine's own directories show through as links, except along the way
 * to a mount, where a fresh directory holds what must be added.
 */
export function planRoot(machine: MachineFiles, mounts: readonly RootMount[]): RootPlan {
  const resolved = mounts.map((mount) => ({
    ...mount,
    target: resolveLinks(machine, mount.target),
  }));
  const opened = new Set<string>(['/', '/etc']);
  const fresh = new Set(ownDirectories);
  const files = new Set<string>();
  for (const mount of resolved) {
    const parts = mount.target.split('/').slice(1);
    for (let depth = 1; depth < parts.length; depth += 1)
      opened.add(`/${parts.slice(0, depth).join('/')}`);
    if (mount.kind === 'file') files.add(mount.target);
    else fresh.add(mount.target);
  }
  const directories = [...new Set([...opened, ...fresh])].filter((d) => d !== '/').toSorted();
  const made = new Set([...directories, ...files]);
  const shownThrough = new Map<string, readonly string[]>();
  for (const directory of opened) {
    if (isBelowOwn(directory)) continue;
    const entries = (machine.list(directory) ?? []).filter(
      (name) => !made.has(join(directory, name)),
    );
    if (entries.length > 0) shownThrough.set(directory, entries);
  }
  return {
    directories,
    files: [...files],
    shownThrough,
    // A mount below another one must come after it.
    mounts: resolved.toSorted((a, b) => a.target.length - b.target.length),
  };
}

function isBelowOwn(path: string): boolean {
  return ownDirectories.some((own) => path === own || path.startsWith(`${own}/`));
}

/** Follows the machine's symbolic links in `path`, as the container would. */
export function resolveLinks(machine: MachineFiles, path: string): string {
  let rest = normalize(path)
    .split('/')
    .filter((part) => part !== '');
  let done = '/';
  for (let steps = 0; rest.length > 0 && steps < maxLinks * 10; steps += 1) {
    const next = join(done, rest[0] ?? '');
    rest = rest.slice(1);
    const target = isBelowOwn(next) ? undefined : machine.link(next);
    if (target === undefined) {
      done = next;
      continue;
    }
    const absolute = target.startsWith('/') ? normalize(target) : join(done, target);
    rest = [...absolute.split('/').filter((part) => part !== ''), ...rest];
    done = '/';
  }
  return done;
}

export interface RootScript {
  readonly plan: RootPlan;
  /** An empty directory of the machine on which the root is mounted. */
  readonly root: string;
  /** Directories of the machine that containers have no business in. */
  readonly hidden: readonly string[];
  /** Files of the machine copied into the root, by target. */
  readonly copies: ReadonlyMap<string, string>;
  readonly hostname: string | undefined;
  readonly workingDir: string;
  readonly path: string;
}

/** The shell script that builds the root, enters it and becomes the container's command, its arguments. */
export function renderRootScript(script: RootScript): string {
  const { plan } = script;
  const at = (path: string): string => quote(`.${path}`);
  const lines = [
    'set -e',
    `cd ${quote(script.root)}`,
    'mount -t tmpfs -o mode=755 tmpfs .',
    `cd ${quote(script.root)}`,
    `mkdir -p ${plan.directories.map(at).join(' ')}`,
    'chmod 1777 ./tmp',
  ];
  if (plan.files.length > 0) lines.push(`touch ${plan.files.map(at).join(' ')}`);
  lines.push('mount --rbind / .host');
  for (const path of ['proc', 'sys', 'dev']) lines.push(`mount --rbind /${path} ${path}`);
  for (const [directory, entries] of plan.shownThrough) {
    const sources = entries.map((name) => quote(join('/.host', directory, name)));
    lines.push(`ln -s ${sources.join(' ')} ${at(directory === '/' ? '/' : `${directory}/`)}`);
  }
  for (const [target, source] of script.copies)
    lines.push(`cp --remove-destination ${quote(source)} ${at(target)}`);
  for (const mount of plan.mounts) {
    lines.push(`mount --rbind ${quote(mount.source)} ${at(mount.target)}`);
    if (mount.readOnly)
      lines.push(`mount -o remount,bind,ro ${at(mount.target)} 2>/dev/null || true`);
  }
  for (const path of script.hidden)
    lines.push(`mount -t tmpfs -o mode=755 tmpfs ${quote(`.host${path}`)}`);
  // Flags that an ordinary user's namespace may not change make this fail; the machine is then protected by its own rights.
  lines.push('mount -o remount,bind,ro .host 2>/dev/null || true');
  if (script.hostname !== undefined) lines.push(`hostname ${quote(script.hostname)}`);
  lines.push(
    'pivot_root . .',
    'umount -l .',
    `cd ${quote(script.workingDir)} || { echo "workingDir ${script.workingDir.replaceAll(/[^\w./-]/g, '?')} does not exist" >&3; exit 128; }`,
    `export PATH=${quote(script.path)}`,
    'echo ready >&3',
    'exec 3>&-',
    'exec "$@"',
  );
  return `${lines.join('\n')}\n`;
}

export function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
