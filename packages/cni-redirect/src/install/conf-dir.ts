import { readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { err } from '@ambit/api';
import type { BinDir } from './bin-dir.ts';
import { binDirProblem } from './bin-dir.ts';
import type { Conflist, PluginEntry } from './conflist.ts';
import {
  chained,
  chainingProblem,
  isChained,
  parseConflist,
  restored,
  unchained,
} from './conflist.ts';

/** Where the chain stands. */
export type ChainState =
  | { readonly chained: true; readonly file: string; readonly changed: boolean }
  | { readonly chained: false; readonly why: string };

interface ConfFile {
  readonly path: string;
  readonly conflist: Conflist;
}

/** Why a plugin in this directory would not be found by the runtime that uses this configuration, if so. */
export async function directoryProblem(
  confDir: string,
  binDir: BinDir,
): Promise<string | undefined> {
  const [primary] = (await readConfDir(confDir)).files;
  return primary === undefined ? undefined : notFoundThere(primary, binDir);
}

async function notFoundThere(
  { path, conflist }: ConfFile,
  binDir: BinDir,
): Promise<string | undefined> {
  const types = unchained(conflist).plugins.map(({ type }) => type);
  const problem = await binDirProblem(types, binDir);
  return problem === undefined ? undefined : `${path}: ${problem}`;
}

/** Why the plugin cannot be put into the configuration that the runtime uses; undefined where it can. */
export async function chainObstacle(confDir: string, binDir: BinDir): Promise<string | undefined> {
  const found = await findPrimary(confDir, binDir);
  return 'why' in found ? found.why : undefined;
}

type Primary =
  { readonly primary: ConfFile; readonly files: readonly ConfFile[] } | { readonly why: string };

async function findPrimary(confDir: string, binDir: BinDir): Promise<Primary> {
  const { files, broken } = await readConfDir(confDir);
  const [primary] = files;
  if (primary === undefined) {
    const why = broken[0] ?? 'there is none yet; the cluster’s network plugin writes it';
    return { why: `no CNI configuration in ${confDir}: ${why}` };
  }
  const problem = chainingProblem(primary.conflist);
  if (problem !== undefined) return { why: `${primary.path}: ${problem}` };
  const notFound = await notFoundThere(primary, binDir);
  return notFound === undefined ? { primary, files } : { why: notFound };
}

/**
 * Puts our plugin into the configuration that the runtime uses: the first by name that can be read. Where the runtime would
 * not find it nothing is changed: the chain would let no pod start at all.
 */
export async function chainInto(
  confDir: string,
  entry: PluginEntry,
  binDir: BinDir,
): Promise<ChainState> {
  const found = await findPrimary(confDir, binDir);
  if ('why' in found) return { chained: false, why: found.why };
  const { primary, files } = found;
  // A single `.conf` becomes a `.conflist`, which its entry remembers, and takes no other one's place: only that of what
  // was made of the same `.conf` before its owner wrote it anew.
  const others = files.filter(({ conflist }) => restored(conflist).file !== basename(primary.path));
  const target = listNameOf(primary.path, new Set(others.map(({ path }) => path)));
  const wanted = chained(
    primary.conflist,
    target === primary.path ? entry : { ...entry, replaces: basename(primary.path) },
  );
  if (target === primary.path && JSON.stringify(wanted) === JSON.stringify(primary.conflist))
    return { chained: true, file: target, changed: false };
  await write(target, wanted, primary.path);
  if (target !== primary.path) await rm(primary.path, { force: true });
  return { chained: true, file: target, changed: true };
}

/** Of a list the path itself; of a single plugin one that comes as early by name. */
function listNameOf(path: string, taken: ReadonlySet<string>): string {
  const stem = path.replace(/\.(?:conf|json)$/, '');
  if (stem === path) return path;
  return taken.has(`${stem}.conflist`) ? `${stem}.ambit.conflist` : `${stem}.conflist`;
}

/** Takes our plugin out of every configuration and leaves each as it was before us. */
export async function unchainAll(confDir: string): Promise<void> {
  const { files } = await readConfDir(confDir);
  for (const { path, conflist } of files) {
    if (!isChained(conflist)) continue;
    const { file, content } = restored(conflist);
    const target = file === undefined ? path : join(confDir, basename(file));
    await write(target, content, path);
    if (target !== path) await rm(path, { force: true });
  }
}

async function readConfDir(
  confDir: string,
): Promise<{ readonly files: readonly ConfFile[]; readonly broken: readonly string[] }> {
  const names = (await readdir(confDir).catch(missingIsEmpty)).sort();
  const files: ConfFile[] = [];
  const broken: string[] = [];
  for (const name of names) {
    if (!/\.(?:conf|conflist|json)$/.test(name)) continue;
    const path = join(confDir, name);
    const conflist = await readFile(path, 'utf8').then(parseConflist, unreadable);
    if (conflist.ok) files.push({ path, conflist: conflist.value });
    else broken.push(`${path}: ${conflist.error}`);
  }
  return { files, broken };
}

/** A folder, a link to nothing: no runtime takes it either. */
function unreadable(error: NodeJS.ErrnoException): ReturnType<typeof parseConflist> {
  return err(`cannot be read (${error.code ?? error.message})`);
}

function missingIsEmpty(error: NodeJS.ErrnoException): string[] {
  if (error.code === 'ENOENT') return [];
  throw error;
}

/** With the access rights of the file that it follows. */
async function write(file: string, content: object, like: string): Promise<void> {
  const { mode } = await stat(like);
  const temporary = `${file}.ambit-tmp`;
  await writeFile(temporary, `${JSON.stringify(content, null, 2)}\n`, { mode: mode & 0o777 });
  await rename(temporary, file);
}
