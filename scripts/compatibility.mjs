// Writes docs/compatibility.md from the schemas that compile the resources; --check only compares.
import { build } from 'esbuild';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { format, resolveConfig } from 'prettier';

const root = fileURLToPath(new URL('..', import.meta.url));
const file = join(root, 'docs/compatibility.md');
const bundle = join(root, '.cache/resources.mjs');
await build({
  entryPoints: [join(root, 'packages/controller/src/resources/compatibility.ts')],
  outfile: bundle,
  bundle: true,
  format: 'esm',
  platform: 'node',
  conditions: ['mesh-source'],
  logLevel: 'warning',
});
const { compatibilityPage } = await import(pathToFileURL(bundle).href);
const text = await format(compatibilityPage(), {
  ...(await resolveConfig(file)),
  parser: 'markdown',
});
if (process.argv.includes('--check')) {
  if (readFileSync(file, 'utf8') !== text) {
    console.error('docs/compatibility.md is not what the code says: run  npm run compatibility');
    process.exitCode = 1;
  }
} else writeFileSync(file, text);
