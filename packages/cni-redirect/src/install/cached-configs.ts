import { readFile, readdir, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isChained, parseConflist, unchained } from './conflist.ts';

/**
 * Takes our plugin out of the configurations that were kept for pods which run. CRI-O takes each pod's network down by the
 * one with which it was set up: with a plugin in it that is gone, its pods would never end. `dir` is libcni's, which every
 * runtime writes, and which a node without one does not have.
 */
export async function unchainCached(dir: string): Promise<void> {
  const results = join(dir, 'results');
  for (const name of await readdir(results).catch(() => [])) {
    const file = join(results, name);
    // Pods end meanwhile, and their files with them.
    const text = await readFile(file, 'utf8').catch(() => '');
    const changed = withoutPlugin(text);
    if (changed === undefined) continue;
    const { mode } = await stat(file).catch(() => ({ mode: 0 }));
    if (mode === 0) continue;
    const temporary = join(dir, `${name}.ambit-tmp`);
    await writeFile(temporary, changed, { mode: mode & 0o777 });
    await rename(temporary, file);
  }
}

/** Undefined where there is nothing of ours in it. */
function withoutPlugin(text: string): string | undefined {
  let entry: unknown;
  try {
    entry = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof entry !== 'object' || entry === null || !('config' in entry)) return undefined;
  if (typeof entry.config !== 'string') return undefined;
  const conflist = parseConflist(Buffer.from(entry.config, 'base64').toString());
  if (!conflist.ok || !isChained(conflist.value)) return undefined;
  const config = Buffer.from(JSON.stringify(unchained(conflist.value))).toString('base64');
  return JSON.stringify({ ...entry, config });
}
