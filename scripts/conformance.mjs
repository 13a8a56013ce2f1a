// npm run conformance [-- OPTION … TEST]: the Gateway API's own conformance suite, profiles MESH-HTTP and MESH-GRPC, in a real
// Kubernetes of two nodes on this machine with the mesh installed by helm; with KUBECONFIG set, in that cluster, where
// the mesh is installed. TEST is the name of one test, as MeshTrafficSplit; without one a report is written to
// docs/conformance/.
//   --keep        leave the cluster up at the end
//   --no-setup    what the cluster needs is there
//   --no-images   images and mesh are in the cluster already (after --keep)
//   --url URL, --contact NAME[,NAME]
//                 what the report says of the project (`unpublished`); the suite takes no empty ones
// Ends with `N passed, N failed`, counted from the results of the Go tests.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { ensureLinux, ensurePackages, orExplain, root, Unmet } from './lib/ensure.mjs';
import { readOptions } from './lib/options.mjs';
import { makePhases } from './lib/phases.mjs';

const own = {
  flags: ['--keep', '--no-setup', '--no-images'],
  valued: ['--url', '--contact'],
};
/** The suite refuses an empty field; an address that does not exist would be worse than none. */
const unpublished = 'unpublished';

await orExplain(async () => {
  const options = readOptions(import.meta.url, own);
  if (options === undefined) return;
  const { flags: given, values } = options;
  const [only, second] = options.words;
  if (second !== undefined) throw new Unmet(`one test at a time: ${only} or ${second}.`);
  ensureLinux();
  ensurePackages((text) => console.log(`· ${text}`));
  const suite = await import('../e2e/conformance/suite.mjs');
  const { phase, total } = makePhases();
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM']) process.once(name, () => stop.abort());
  const cluster = process.env.KUBECONFIG === undefined ? await ownCluster(phase, given) : foreign();
  let results = { passed: [], failed: ['the suite itself'], log: '' };
  try {
    await phase('the suite and its echo server, built', suite.build);
    await cluster.up(suite);
    await phase('namespaces and waypoints', () => suite.prepare(cluster.kubeconfig));
    const report = join(root, `docs/conformance/gateway-api-${suite.version}.yaml`);
    mkdirSync(join(root, 'docs/conformance'), { recursive: true });
    results = await phase('conformance', () =>
      suite.runSuite(cluster.kubeconfig, {
        only,
        report: only === undefined ? report : undefined,
        about: {
          url: values.get('--url') ?? unpublished,
          contact: values.get('--contact') ?? unpublished,
        },
        say: console.log,
        signal: stop.signal,
      }),
    );
    console.log(`everything that the suite said: ${results.log}`);
  } finally {
    suite.tidy(cluster.kubeconfig);
    for (const trace of await cluster.down()) results.failed.push(`left behind: ${trace}`);
  }
  console.log(`\n${total().padStart(8)}  seconds in all`);
  for (const name of results.failed) console.log(`failed: ${name}`);
  console.log(`${results.passed.length} passed, ${results.failed.length} failed`);
  process.exitCode = results.failed.length === 0 && results.passed.length > 0 ? 0 : 1;
});

/** A cluster of somebody else: the mesh is there, and its nodes can fetch the suite's image. */
function foreign() {
  return { kubeconfig: process.env.KUBECONFIG, up: () => {}, down: () => [] };
}

async function ownCluster(phase, given) {
  const { loadImages, standUp, takeDown } = await import('../e2e/cluster/stand-up.mjs');
  const { paths } = await import('../e2e/cluster/layout.mjs');
  return {
    kubeconfig: paths.kubeconfig,
    async up(suite) {
      await standUp(phase, given);
      await phase('echo image', () => loadImages([suite.echoImage()]));
    },
    async down() {
      return given.has('--keep') ? [] : takeDown(phase);
    },
  };
}
