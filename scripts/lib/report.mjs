// Runs checks and tests one after the other, counts what held, and ends with `N passed, N failed`.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './ensure.mjs';
import { pinnedNode } from './toolchain.mjs';

const count = { passed: 0, failed: 0, skipped: 0 };
const failures = [];

/** Folder of the results of this run, by the name of the script. */
function folderOf(script) {
  return join(root, '.cache/test-results', script);
}

/** Throws away the results of the run before. */
export function begin(script) {
  rmSync(folderOf(script), { recursive: true, force: true });
  mkdirSync(folderOf(script), { recursive: true });
}

function run(args) {
  const started = Date.now();
  const outcome = spawnSync(pinnedNode(), args, { cwd: root, stdio: 'inherit' });
  return { ok: outcome.status === 0, seconds: ((Date.now() - started) / 1000).toFixed(1) };
}

/** Something that holds when its script ends well. */
export function check(name, script, args) {
  const { ok, seconds } = run([script, ...args]);
  console.log(`${ok ? '✓' : '✗'} ${name} (${seconds} s)`);
  count[ok ? 'passed' : 'failed'] += 1;
  if (!ok) failures.push(name);
}

/** Tests by Jest; `prefix` is the script that runs it, if another one does. */
export function jest(script, name, file, prefix, args) {
  const output = join(folderOf(script), `${file}.json`);
  const { ok, seconds } = run([
    ...prefix,
    'scripts/jest.mjs',
    ...args,
    '--json',
    '--outputFile',
    output,
  ]);
  let report;
  try {
    report = JSON.parse(readFileSync(output, 'utf8'));
  } catch {
    report = undefined;
  }
  const failed = (report?.numFailedTests ?? 0) + (report?.numRuntimeErrorTestSuites ?? 0);
  count.passed += report?.numPassedTests ?? 0;
  count.failed += failed === 0 && !ok ? 1 : failed;
  count.skipped += report?.numPendingTests ?? 0;
  if (!ok) failures.push(name);
  console.log(`${ok ? '✓' : '✗'} ${name} (${seconds} s)`);
}

export function summary() {
  if (failures.length > 0) console.log(`\nfailed: ${failures.join(', ')}`);
  const skipped = count.skipped > 0 ? `, ${count.skipped} skipped` : '';
  console.log(`${count.passed} passed, ${count.failed} failed${skipped}`);
  process.exitCode = count.failed === 0 && count.passed > 0 ? 0 : 1;
}
