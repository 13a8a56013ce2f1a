// The Gateway API's own conformance suite: builds it and its echo server, makes the namespaces ready for it, runs it.
import { spawn } from 'node:child_process';
import { createWriteStream, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { root, Unmet } from '../../scripts/lib/ensure.mjs';
import { archiveOf, fileEntry, layerOf } from '../../scripts/lib/image.mjs';
import { fetchTool } from '../../scripts/lib/layer.mjs';
import { importSource } from '../../scripts/lib/source.mjs';
import { path } from '../cluster/layout.mjs';
import { attempt, run } from '../cluster/process.mjs';

export const version = 'v1.6.3';
export const profiles = ['MESH-HTTP', 'MESH-GRPC'];

/** What is optional and has a test for meshes: all of it, of which the GatewayClass tells its part. */
const { meshFeatures, routeFeatures } = await importSource(
  'packages/controller/src/status/supported-features.ts',
);
const features = [...meshFeatures, ...routeFeatures];

const namespaces = ['gateway-conformance-mesh', 'gateway-conformance-mesh-consumer'];
const labels = { 'istio.io/dataplane-mode': 'ambient', 'istio.io/use-waypoint': 'waypoint' };
const source = fileURLToPath(new URL('.', import.meta.url));
const out = join(root, '.cache/conformance');
const binary = join(out, 'conformance.test');
const echo = join(out, 'echo');
const buildMs = 40 * 60_000;
const runMs = 40 * 60_000;

/** Builds the suite and its echo server with lowest priority; Go keeps what it has built. */
export function build() {
  mkdirSync(out, { recursive: true });
  const nice = (...args) =>
    run('nice', ['-n', '19', 'go', ...args], {
      cwd: source,
      env: { CGO_ENABLED: '0', GOFLAGS: '-mod=readonly' },
      timeout: buildMs,
    });
  nice('build', '-trimpath', '-ldflags', '-s -w', '-o', echo, './echo');
  nice('test', '-c', '-o', binary, '.');
}

/** The archive of the image that the suite's pods ask for. */
export function echoImage() {
  const module = 'sigs.k8s.io/gateway-api/conformance';
  const folder = run('go', ['list', '-m', '-f', '{{.Dir}}', module], { cwd: source }).trim();
  const manifest = readFileSync(join(folder, 'mesh/manifests.yaml'), 'utf8');
  const [, repository, tag] = /image: (\S+\/echo-\w+):(\S+)/.exec(manifest) ?? [];
  if (repository === undefined)
    throw new Unmet(`${module} ${version}: its mesh manifests name no echo image.`);
  const entries = new Map([
    ['usr/bin/server', fileEntry(echo)],
    ['usr/bin/client', { link: '/usr/bin/server' }],
  ]);
  const { archive } = archiveOf({
    repository,
    tag,
    config: {
      Entrypoint: ['/usr/bin/server'],
      Env: ['PATH=/usr/bin'],
      User: '65532:65532',
      WorkingDir: '/',
    },
    layers: [{ ...layerOf(entries), comment: 'echo' }],
  });
  const file = join(out, 'echo.tar');
  writeFileSync(file, archive);
  return file;
}

/** Labels the suite's namespaces and gives each a waypoint; the suite makes everything else. */
export function prepare(kubeconfig) {
  const objects = namespaces.flatMap((name) => [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } },
    {
      apiVersion: 'gateway.networking.k8s.io/v1',
      kind: 'Gateway',
      metadata: {
        name: 'waypoint',
        namespace: name,
        labels: { 'istio.io/waypoint-for': 'service' },
      },
      spec: {
        gatewayClassName: 'istio-waypoint',
        listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
      },
    },
  ]);
  const kubectl = (args, options) =>
    run(fetchTool('kubectl'), ['--kubeconfig', kubeconfig, ...args], options);
  const input = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects });
  kubectl(['apply', '-f', '-'], { input });
  for (const name of namespaces)
    kubectl(['wait', '-n', name, 'gateway/waypoint', '--for=condition=Programmed', '--timeout=2m']);
}

/** Removes what an interrupted run has left; of a whole one nothing is there. */
export function tidy(kubeconfig) {
  attempt(fetchTool('kubectl'), [
    ...['--kubeconfig', kubeconfig, 'delete', 'namespace', ...namespaces],
    ...['--ignore-not-found', '--timeout=2m'],
  ]);
}

/**
 * Runs the suite, or one test of it.
 * @param options.only name of the one test
 * @param options.report file for the suite's own report
 * @param options.about what the report says of the implementation: `url` and `contact`
 * @param options.say is told of each test as it ends
 * @returns the names of the tests that passed and that failed; of what the profiles do not hold nothing is said
 */
export async function runSuite(kubeconfig, { only, report, about, say, signal }) {
  const flags = [
    `-conformance-profiles=${profiles.join(',')}`,
    `-supported-features=${features.join(',')}`,
    `-namespace-labels=${Object.entries(labels)
      .map((pair) => pair.join('='))
      .join(',')}`,
    '-gateway-class=istio-waypoint',
    ...(only === undefined ? [] : [`-run-test=${only}`]),
    ...(report === undefined ? [] : [`-report-output=${report}`, ...implementation(about)]),
  ];
  const log = createWriteStream(join(out, 'output.log'));
  const child = spawn(
    'go',
    ['tool', 'test2json', '-t', binary, '-test.v=test2json', `-test.timeout=${runMs}ms`, ...flags],
    {
      cwd: source,
      env: { ...process.env, PATH: path, KUBECONFIG: kubeconfig },
      stdio: ['ignore', 'pipe', 'inherit'],
      signal,
    },
  );
  const status = new Promise((resolve) => {
    child.once('error', () => resolve(1));
    child.once('exit', (code) => resolve(code ?? 1));
  });
  const results = { passed: [], failed: [] };
  const last = new Map();
  for await (const line of createInterface({ input: child.stdout }))
    take(JSON.parse(line), { results, last, log, say });
  log.end();
  if ((await status) !== 0 && results.failed.length === 0) results.failed.push('the suite itself');
  return { ...results, log: join(out, 'output.log') };
}

/** One event of the test program. */
function take(event, { results, last, log, say }) {
  const name = event.Test?.split('/')[1] ?? '';
  if (event.Action === 'output') {
    log.write(event.Output);
    const lines = [...(last.get(name) ?? []), event.Output.trimEnd()];
    last.set(name, lines.slice(-12));
  }
  // Deeper names are cases of a test; the one above is the suite.
  if (event.Test?.split('/').length !== 2) return;
  if (event.Action === 'pass') results.passed.push(name);
  if (event.Action === 'fail') results.failed.push(name);
  if (!['pass', 'fail'].includes(event.Action)) return;
  const seconds = event.Elapsed.toFixed(1).padStart(6);
  say(`  ${event.Action === 'pass' ? '✓' : '✗'} ${seconds} s  ${name}`);
  if (event.Action === 'fail') for (const one of last.get(name) ?? []) say(`      ${one}`);
}

function implementation({ url, contact }) {
  const { name, version: ours } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  return [
    `-organization=${name}`,
    `-project=${name}`,
    `-url=${url}`,
    `-version=v${ours}`,
    `-contact=${contact}`,
  ];
}
