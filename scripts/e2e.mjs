// npm run e2e [-- PATH-PART | -t NAME]: the acceptance suites, each in a whole cluster on this machine.
// Ends with `N passed, N failed`.
import { ensureMachine, orExplain } from './lib/ensure.mjs';
import { begin, check, jest, summary } from './lib/report.mjs';

await orExplain(async () => {
  ensureMachine((text) => console.log(`· ${text}`));
  begin('e2e');
  check('bundles', 'scripts/bundle.mjs', []);
  jest(
    'e2e',
    'acceptance suites',
    'mesh',
    ['scripts/netns.mjs', 'node'],
    ['--selectProjects', 'e2e', '--runInBand', ...process.argv.slice(2)],
  );
  summary();
});
