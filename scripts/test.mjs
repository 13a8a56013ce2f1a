// npm test: everything that must hold before a commit. Ends with `N passed, N failed`.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import {
  ensureLinux,
  ensureNamespaces,
  ensurePackages,
  ensureTools,
  orExplain,
  root,
} from './lib/ensure.mjs';
import { pinnedNode } from './lib/toolchain.mjs';

const results = join(root, '.cache/test-results');
const count = { passed: 0, failed: 0, skipped: 0 };
const failures = [];

await orExplain(async () => {
  const say = (text) => console.log(`· ${text}`);
  ensureLinux();
  ensurePackages(say);
  ensureTools(say);
  ensureNamespaces();
  rmSync(results, { recursive: true, force: true });
  mkdirSync(results, { recursive: true });

  check('types', bin('typescript/bin/tsc'), ['-p', 'tsconfig.json']);
  check('lint', bin('eslint/bin/eslint.js'), [
    '--max-warnings',
    '0',
    '--cache',
    '--cache-location',
    '.cache/eslint',
    '.',
  ]);
  check('format', bin('prettier/bin/prettier.cjs'), ['--check', '--log-level', 'warn', '.']);
  check('layers', bin('dependency-cruiser/bin/dependency-cruiser.mjs'), [
    '--config',
    '.dependency-cruiser.cjs',
    '--output-type',
    'err',
    'packages',
    'e2e',
    'bench',
  ]);
  check('compatibility page', 'scripts/compatibility.mjs', ['--check']);
  check('bundles', 'scripts/bundle.mjs', []);
  jest('unit and integration', 'unit', [], ['--selectProjects', 'unit', 'integration']);
  jest(
    'network namespaces',
    'netns',
    ['scripts/netns.mjs', 'node'],
    ['--selectProjects', 'netns', '--runInBand'],
  );
  summary();
});

function bin(path) {
  return join('node_modules', path);
}

function run(args) {
  const started = Date.now();
  const outcome = spawnSync(pinnedNode(), args, { cwd: root, stdio: 'inherit' });
  return { ok: outcome.status === 0, seconds: ((Date.now() - started) / 1000).toFixed(1) };
}

function check(name, script, args) {
  const { ok, seconds } = run([script, ...args]);
  console.log(`${ok ? '✓' : '✗'} ${name} (${seconds} s)`);
  count[ok ? 'passed' : 'failed'] += 1;
  if (!ok) failures.push(name);
}

function jest(name, file, prefix, args) {
  const output = join(results, `${file}.json`);
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

function summary() {
  if (failures.length > 0) console.log(`\nfailed: ${failures.join(', ')}`);
  const skipped = count.skipped > 0 ? `, ${count.skipped} skipped` : '';
  console.log(`${count.passed} passed, ${count.failed} failed${skipped}`);
  process.exitCode = count.failed === 0 && count.passed > 0 ? 0 : 1;
}
