import { mkdir, readlink, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';

export type FileContents = ReadonlyMap<string, Buffer | string>;

let writes = 0;

/**
 * Makes `directory` show exactly `files`, all at once: readers see the old set or the new one, never
 * a mixture. The layout is the one kubelets use (`..data` points at a dated directory).
 */
export async function writeFilesAtomically(directory: string, files: FileContents): Promise<void> {
  await mkdir(directory, { recursive: true });
  writes += 1;
  const dated = `..${new Date().toISOString().replaceAll(/[-:.TZ]/g, '_')}${writes}`;
  await mkdir(join(directory, dated));
  for (const [path, content] of files) {
    const relative = safeRelative(path);
    await mkdir(dirname(join(directory, dated, relative)), { recursive: true });
    await writeFile(join(directory, dated, relative), content, { mode: 0o644 });
  }
  const link = join(directory, '..data');
  const before = await readlink(link).catch(() => undefined);
  await symlink(dated, `${link}_tmp`);
  await rename(`${link}_tmp`, link);
  await alignTopLevel(
    directory,
    new Set(Array.from(files.keys(), (p) => safeRelative(p).split('/')[0] ?? '')),
  );
  if (before !== undefined) await rm(join(directory, before), { recursive: true, force: true });
}

async function alignTopLevel(directory: string, wanted: ReadonlySet<string>): Promise<void> {
  const present = new Set((await readdir(directory)).filter((name) => !name.startsWith('..')));
  for (const name of present)
    if (!wanted.has(name)) await rm(join(directory, name), { force: true });
  for (const name of wanted) {
    if (!present.has(name)) await symlink(join('..data', name), join(directory, name));
  }
}

/** A path inside a volume; throws for one that would leave it. */
export function safeRelative(path: string): string {
  const clean = normalize(path);
  if (clean.startsWith('/') || clean.startsWith('..') || clean === '.') {
    throw new RangeError(`path ${JSON.stringify(path)} leaves its volume`);
  }
  return clean;
}
