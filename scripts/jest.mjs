// Runs Jest on the pinned Node with ES modules and the source condition. A run whose results are written (`--outputFile`)
// and that does not end, because a test left something open, is ended and has failed.
import { spawn } from 'node:child_process';
import { statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { pinnedNode } from './lib/toolchain.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const jest = createRequire(import.meta.url).resolve('jest/bin/jest');
const args = process.argv.slice(2);
const output = args[args.indexOf('--outputFile') + 1];
const began = Date.now();
const endWithinMs = 60_000;

const run = spawn(pinnedNode(), ['--experimental-vm-modules', '--no-warnings', jest, ...args], {
  stdio: 'inherit',
  cwd: root,
});
if (args.includes('--outputFile')) {
  const look = setInterval(() => {
    const { mtimeMs = 0 } = statSync(output, { throwIfNoEntry: false }) ?? {};
    if (mtimeMs < began || Date.now() - mtimeMs < endWithinMs) return;
    console.error(
      `Jest wrote its results ${endWithinMs / 1000} s ago and has not ended: a test left something open.`,
    );
    run.kill('SIGKILL');
  }, 5_000);
  look.unref();
}
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => run.kill(signal));
run.on('exit', (status) => process.exit(status ?? 1));
