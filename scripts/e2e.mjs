// npm run e2e [-- PATH-PART | -t NAME]: the acceptance suites, each in a whole cluster on this machine.
// Ends with `N passed, N failed`.
import {
  ensureLinux,
  ensureNamespaces,
  ensurePackages,
  ensureTools,
  orExplain,
} from './lib/ensure.mjs';
import { begin, check, jest, summary } from './lib/report.mjs';

await orExplain(async () => {
  const say = (text) => console.log(`· ${text}`);
  ensureLinux();
  ensurePackages(say);
  ensureTools(say);
  ensureNamespaces();
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
