// npm test: everything that must hold before a commit. Ends with `N passed, N failed`.
import { join } from 'node:path';
import { ensureMachine, orExplain } from './lib/ensure.mjs';
import { begin, check, jest, jestInShares, summary } from './lib/report.mjs';

await orExplain(async () => {
  ensureMachine((text) => console.log(`· ${text}`));
  begin('test');

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
  check('definitions of the charts', 'scripts/crds.mjs', ['--check']);
  check('bundles', 'scripts/bundle.mjs', []);
  // Two at a time on any machine: tests mostly wait, and by default Jest takes one of two cores.
  const both = ['--maxWorkers', '2', '--selectProjects', 'unit', 'integration', 'charts'];
  jest('test', 'unit and integration', 'unit', [], both);
  // Each share has network, mount and process namespaces of its own, and mostly waits, too.
  await jestInShares(
    'test',
    'network namespaces',
    'netns',
    ['scripts/netns.mjs', 'node'],
    ['--selectProjects', 'netns', '--runInBand'],
    2,
  );
  summary();
});

function bin(path) {
  return join('node_modules', path);
}
