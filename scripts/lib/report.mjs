// Runs checks and tests, counts what held, and ends with `N passed, N failed`.
import { spawn, spawnSync } from 'node:child_process';
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
  return { ok: outcome.status === 0, seconds: secondsSince(started) };
}

function secondsSince(started) {
  return ((Date.now() - started) / 1000).toFixed(1);
}

/** Something that holds when its script ends well. */
export function check(name, script, args) {
  const { ok, seconds } = run([script, ...args]);
  countCheck(name, ok, seconds);
}

/** Several of them, as `[name, script, args]`, begun in their order, so many beside each other as there are lanes. */
export async function checksBeside(checks, lanes) {
  const waiting = [...checks];
  const lane = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [name, script, args] = next;
      const started = Date.now();
      const ok = await runBeside([script, ...args]);
      countCheck(name, ok, secondsSince(started));
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}

function countCheck(name, ok, seconds) {
  count[ok ? 'passed' : 'failed'] += 1;
  tell(name, ok, seconds);
}

/** Tests by Jest; `prefix` is the script that runs it, if another one does. */
export function jest(script, name, file, prefix, args) {
  const output = join(folderOf(script), `${file}.json`);
  const { ok, seconds } = run([...prefix, ...jestArgs(args, output)]);
  countIn(output, ok);
  tell(name, ok, seconds);
}

/** As `jest`, in shares that run beside each other. */
export async function jestInShares(script, name, file, prefix, args, shares) {
  const started = Date.now();
  const outcomes = await Promise.all(
    Array.from({ length: shares }, async (_, index) => {
      const output = join(folderOf(script), `${file}-${index + 1}.json`);
      // Of its own: files in a cache are written under names of the process's number, and each share counts its own processes.
      const cache = join(root, '.cache', `jest-${index + 1}`);
      const share = [...args, `--shard=${index + 1}/${shares}`, '--cacheDirectory', cache];
      const ok = await runBeside([...prefix, ...jestArgs(share, output)]);
      countIn(output, ok);
      return ok;
    }),
  );
  tell(name, !outcomes.includes(false), secondsSince(started));
}

function jestArgs(args, output) {
  return ['scripts/jest.mjs', ...args, '--json', '--outputFile', output];
}

/** Through pipes, so that what runs writes whole blocks and not lines over lines. */
function runBeside(args) {
  return new Promise((resolve, reject) => {
    const child = spawn(pinnedNode(), args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.pipe(process.stdout, { end: false });
    child.stderr.pipe(process.stderr, { end: false });
    child.on('error', reject);
    child.on('close', (status) => resolve(status === 0));
  });
}

/** A run that wrote no results, or none that failed and ended badly all the same, counts as one failure. */
function countIn(output, ok) {
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
}

function tell(name, ok, seconds) {
  if (!ok) failures.push(name);
  console.log(`${ok ? '✓' : '✗'} ${name} (${seconds} s)`);
}

export function summary() {
  if (failures.length > 0) console.log(`\nfailed: ${failures.join(', ')}`);
  const skipped = count.skipped > 0 ? `, ${count.skipped} skipped` : '';
  console.log(`${count.passed} passed, ${count.failed} failed${skipped}`);
  process.exitCode = count.failed === 0 && count.passed > 0 ? 0 : 1;
}
