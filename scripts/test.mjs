// npm test [-- PART …]: everything that must hold before a commit, or these parts of it.
//   static   types, lint, format, layers, and what is generated
//   unit     unit and integration tests, and those of the charts
//   netns    tests in network namespaces
// Ends with `N passed, N failed`.
import { join } from 'node:path';
import { ensureMachine, orExplain, Unmet } from './lib/ensure.mjs';
import { readOptions } from './lib/options.mjs';
import { begin, check, checksBeside, jest, jestInShares, summary } from './lib/report.mjs';

let bundled = false;
const parts = { static: checkSources, unit: testUnits, netns: testNamespaces };

await orExplain(async () => {
  const options = readOptions(import.meta.url);
  if (options === undefined) return;
  const known = Object.keys(parts);
  const wrong = options.words.find((word) => !known.includes(word));
  if (wrong !== undefined)
    throw new Unmet(`${wrong} is no part of the tests; there are ${known.join(', ')}.`);
  ensureMachine((text) => console.log(`· ${text}`));
  begin('test');
  const asked = options.words.length > 0 ? options.words : known;
  for (const part of known) if (asked.includes(part)) await parts[part]();
  summary();
});

async function checkSources() {
  // The longest first.
  const checks = [
    [
      'lint',
      bin('eslint/bin/eslint.js'),
      ['--max-warnings', '0', '--cache', '--cache-location', '.cache/eslint', '.'],
    ],
    ['types', bin('typescript/bin/tsc'), ['-p', 'tsconfig.json']],
    ['format', bin('prettier/bin/prettier.cjs'), ['--check', '--log-level', 'warn', '.']],
    [
      'layers',
      bin('dependency-cruiser/bin/dependency-cruiser.mjs'),
      ['--config', '.dependency-cruiser.cjs', '--output-type', 'err', 'packages', 'e2e', 'bench'],
    ],
    ['compatibility page', 'scripts/compatibility.mjs', ['--check']],
    ['definitions of the charts', 'scripts/crds.mjs', ['--check']],
  ];
  // Each takes one core; two have room on any machine.
  await checksBeside(checks, 2);
}

function testUnits() {
  bundle();
  // Two at a time on any machine: tests mostly wait, and by default Jest takes one of two cores.
  const both = ['--maxWorkers', '2', '--selectProjects', 'unit', 'integration', 'charts'];
  jest('test', 'unit and integration', 'unit', [], both);
}

async function testNamespaces() {
  bundle();
  // Each share has network, mount and process namespaces of its own, and mostly waits, too.
  await jestInShares(
    'test',
    'network namespaces',
    'netns',
    ['scripts/netns.mjs', 'node'],
    ['--selectProjects', 'netns', '--runInBand'],
    2,
  );
}

/** Once: tests run what users run. */
function bundle() {
  if (bundled) return;
  bundled = true;
  check('bundles', 'scripts/bundle.mjs', []);
}

function bin(path) {
  return join('node_modules', path);
}
