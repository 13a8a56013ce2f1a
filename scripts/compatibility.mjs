// Writes docs/compatibility.md from the schemas that compile the resources; --check only compares.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';
import { root } from './lib/ensure.mjs';
import { importSource } from './lib/source.mjs';

const file = join(root, 'docs/compatibility.md');
const { compatibilityPage } = await importSource(
  'packages/controller/src/resources/compatibility.ts',
);
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
