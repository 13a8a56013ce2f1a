import { closeSync, openSync, readSync, statSync, writeSync } from 'node:fs';
import { chmod, copyFile, cp, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { ReadImage } from './elf.ts';
import { interpreterOf, interpreterPatches } from './elf.ts';

/** Where the plugin's executable comes from, and where the container runtime looks for it. */
export interface PluginFiles {
  /** The executable; its libraries lie beside it in a directory of its name, `.lib-` and a digest. */
  readonly source: string;
  readonly binDir: string;
  /** `binDir` as the host names it: the executable's loader needs an absolute path there. */
  readonly binDirOnHost: string;
  readonly name: string;
}

/**
 * Copies the plugin. The runtime may call it at any moment, so each file appears whole: the libraries under a name of
 * their own version first, then the executable by one rename. Libraries of the plugin that it replaces stay until the
 * next time, for calls that have just begun.
 */
export async function installPlugin(files: PluginFiles): Promise<void> {
  const { source, binDir, binDirOnHost, name } = files;
  await mkdir(binDir, { recursive: true });
  const target = join(binDir, name);
  const libraries = await librariesOf(dirname(source), basename(source));
  const kept = new Set(libraries);
  const replaced = await loaderOf(target);
  if (replaced !== undefined) kept.add(basename(dirname(replaced)));
  for (const directory of libraries)
    await installLibraries(join(dirname(source), directory), join(binDir, directory));
  const temporary = `${target}.tmp`;
  await copyFile(source, temporary);
  const [directory] = libraries;
  if (directory !== undefined) setLoader(temporary, join(binDirOnHost, directory));
  await chmod(temporary, 0o755);
  await rename(temporary, target);
  for (const old of await librariesOf(binDir, name))
    if (!kept.has(old)) await rm(join(binDir, old), { recursive: true, force: true });
}

export async function removePlugin({ binDir, name }: PluginFiles): Promise<void> {
  await rm(join(binDir, name), { force: true });
  for (const directory of await librariesOf(binDir, name))
    await rm(join(binDir, directory), { recursive: true, force: true });
}

/**
 * Differs whenever somebody changed, replaced or removed an installed file. Undefined while one is missing: whoever clears
 * the directory may be at it in the very moment in which the plugin is installed.
 */
export async function fingerprint({
  source,
  binDir,
  name,
}: PluginFiles): Promise<string | undefined> {
  const wanted = await librariesOf(dirname(source), basename(source));
  const paths = [name, ...new Set([...wanted, ...(await librariesOf(binDir, name))])];
  const parts: string[] = [];
  for (const path of paths) {
    const found = await stat(join(binDir, path)).catch(() => undefined);
    if (found === undefined) return undefined;
    parts.push(`${path} ${found.ino} ${found.size} ${found.mtimeMs}`);
  }
  return parts.join('\n');
}

async function librariesOf(directory: string, name: string): Promise<string[]> {
  const entries = await readdir(directory).catch(() => [] as string[]);
  return entries.filter((entry) => entry.startsWith(`${name}.lib-`) && !entry.endsWith('.tmp'));
}

/** Its name tells its content, so what is there already is right, unless files of it were removed. */
async function installLibraries(source: string, target: string): Promise<void> {
  const wanted = await readdir(source);
  const there = new Set(await readdir(target).catch(() => [] as string[]));
  if (wanted.every((file) => there.has(file))) return;
  await rm(`${target}.tmp`, { recursive: true, force: true });
  await cp(source, `${target}.tmp`, { recursive: true });
  await rm(target, { recursive: true, force: true });
  await rename(`${target}.tmp`, target);
}

async function loaderOf(file: string): Promise<string | undefined> {
  const exists = await stat(file).then(
    (found) => found.isFile(),
    () => false,
  );
  return exists ? withFile(file, 'r', (read) => interpreterOf(read)) : undefined;
}

function setLoader(file: string, directoryOnHost: string): void {
  withFile(file, 'r+', (read, descriptor) => {
    const loader = interpreterOf(read);
    if (loader === undefined) return;
    const path = join(directoryOnHost, basename(loader));
    for (const { at, bytes } of interpreterPatches(read, statSync(file).size, path))
      writeSync(descriptor, bytes, 0, bytes.length, at);
  });
}

function withFile<T>(
  file: string,
  flags: 'r' | 'r+',
  work: (read: ReadImage, descriptor: number) => T,
): T {
  const descriptor = openSync(file, flags);
  try {
    const read: ReadImage = (offset, length) => {
      const bytes = Buffer.alloc(length);
      return bytes.subarray(0, readSync(descriptor, bytes, 0, length, offset));
    };
    return work(read, descriptor);
  } finally {
    closeSync(descriptor);
  }
}
