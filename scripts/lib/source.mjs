import { build } from 'esbuild';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root } from './ensure.mjs';

/** What a source file of the packages exports, for scripts: bundled into .cache first, as Node reads no workspaces' sources. */
export async function importSource(file) {
  const bundle = join(root, '.cache', `${basename(file, '.ts')}.mjs`);
  await build({
    entryPoints: [join(root, file)],
    outfile: bundle,
    bundle: true,
    format: 'esm',
    platform: 'node',
    conditions: ['mesh-source'],
    logLevel: 'warning',
  });
  return import(pathToFileURL(bundle).href);
}
