// npm run e2e [-- PATH-PART | -t NAME]: the acceptance suites, each in a whole cluster on this machine; with KUBECONFIG in
// the environment, in that cluster, where the mesh is installed already, with those of e2e/kubernetes besides.
// Ends with `N passed, N failed`.
import { ensureLinux, ensureMachine, ensurePackages, orExplain } from './lib/ensure.mjs';
import { begin, check, jest, summary } from './lib/report.mjs';

const say = (text) => console.log(`· ${text}`);
const words = process.argv.slice(2);

await orExplain(async () => {
  begin('e2e');
  if (process.env.KUBECONFIG === undefined) {
    ensureMachine(say);
    check('bundles', 'scripts/bundle.mjs', []);
    run(['scripts/netns.mjs', 'node'], ['e2e']);
  } else {
    ensureLinux();
    ensurePackages(say);
    run([], ['e2e', 'kubernetes']);
  }
  summary();
});

function run(prefix, projects) {
  const args = ['--selectProjects', ...projects, '--runInBand', ...words];
  jest('e2e', 'acceptance suites', 'mesh', prefix, args);
}
