// Writes the CustomResourceDefinitions of charts/base, and what the values of charts/controller may have as meshConfig, from the
// schemas that compile them; --check only compares.
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { root } from './lib/ensure.mjs';
import { importSource } from './lib/source.mjs';

const folder = join(root, 'charts/base/files/crds');
const { crds } = await importSource('packages/controller/src/resources/index.ts');
const head =
  '# Generated from packages/controller/src/resources by scripts/crds.mjs; change the schema there.\n';
// Those of the Gateway API are the official ones, which users install.
const files = new Map(
  crds()
    .filter(({ spec }) => spec.group !== 'gateway.networking.k8s.io')
    .map((crd) => [
      `${crd.metadata.name}.yaml`,
      head + stringify(crd, { aliasDuplicateObjects: false, lineWidth: 0 }),
    ]),
);

const { meshConfigSchema } = await importSource(
  'packages/controller/src/resources/mesh-config-schema.ts',
);
const valuesFile = join(root, 'charts/controller/values.schema.json');
const valuesThere = readFileSync(valuesFile, 'utf8');
const values = JSON.parse(valuesThere);
values.properties.meshConfig = meshConfigSchema();
const valuesText = `${JSON.stringify(values, null, 2)}\n`;

mkdirSync(folder, { recursive: true });
const there = readdirSync(folder);
if (process.argv.includes('--check')) {
  const stale = [
    ...there.filter((name) => !files.has(name)),
    ...[...files].filter(([name, text]) => read(name) !== text).map(([name]) => name),
  ];
  if (valuesText !== valuesThere) stale.push('values.schema.json');
  if (stale.length > 0) {
    console.error(`charts/ is not what the code says: ${stale.join(', ')}`);
    console.error('run  npm run crds');
    process.exitCode = 1;
  }
} else {
  for (const name of there) rmSync(join(folder, name));
  for (const [name, text] of files) writeFileSync(join(folder, name), text);
  writeFileSync(valuesFile, valuesText);
}

function read(name) {
  return there.includes(name) ? readFileSync(join(folder, name), 'utf8') : undefined;
}
