// Compares the HTTP/1.1 codec with Node's llhttp on mutated messages, and sends them through a whole waypoint: npm run fuzz:http1 -- --seed N --count N
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: { seed: { type: 'string', default: '1' }, count: { type: 'string', default: '200000' } },
});
for (const [name, value] of Object.entries(values)) {
  if (!/^\d{1,9}$/.test(value)) {
    console.error(`--${name} is a number, not ${value}`);
    process.exit(2);
  }
}
const run = spawnSync(
  process.execPath,
  [
    fileURLToPath(new URL('jest.mjs', import.meta.url)),
    '--selectProjects',
    'integration',
    '--',
    'packages/waypoint/test/llhttp',
    'packages/waypoint/test/smuggling',
  ],
  { stdio: 'inherit', env: { ...process.env, FUZZ_SEED: values.seed, FUZZ_COUNT: values.count } },
);
process.exit(run.status ?? 1);
