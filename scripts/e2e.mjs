// npm run e2e [-- PATH-PART …]: the acceptance suites, each in a whole cluster on this machine; with KUBECONFIG in
// the environment, in that cluster, where the mesh is installed already, with those of e2e/kubernetes besides.
//   -t NAME   only tests whose name contains NAME
//   -- …      what follows goes to Jest as it is
// Ends with `N passed, N failed`.
import { delimiter } from 'node:path';
import { ensureLinux, ensureMachine, ensurePackages, orExplain, Unmet } from './lib/ensure.mjs';
import { readOptions } from './lib/options.mjs';
import { begin, check, jest, summary } from './lib/report.mjs';

const say = (text) => console.log(`· ${text}`);

await orExplain(async () => {
  const options = readOptions(import.meta.url, { valued: ['-t'] });
  if (options === undefined) return;
  const kubeconfig = process.env.KUBECONFIG;
  if (kubeconfig?.includes(delimiter))
    throw new Unmet(
      `KUBECONFIG names several files (${kubeconfig}); set it to one, such as that of kubectl config view --flatten --minify.`,
    );
  begin('e2e');
  if (kubeconfig === undefined) {
    ensureMachine(say);
    check('bundles', 'scripts/bundle.mjs', []);
    run(['scripts/netns.mjs', 'node'], ['e2e'], options);
  } else {
    ensureLinux();
    ensurePackages(say);
    run([], ['e2e', 'kubernetes'], options);
  }
  summary();
});

function run(prefix, projects, { values, words, passed }) {
  const named = values.has('-t') ? ['-t', values.get('-t')] : [];
  const args = ['--selectProjects', ...projects, '--runInBand', ...named, ...passed, ...words];
  jest('e2e', 'acceptance suites', 'mesh', prefix, args);
}
