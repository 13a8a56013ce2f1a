// What `node scripts/cluster.mjs` does.
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Unmet } from '../../scripts/lib/ensure.mjs';
import { fetchTool } from '../../scripts/lib/layer.mjs';
import { makeCertificates } from './certificates.mjs';
import * as plane from './control-plane.mjs';
import { home, imageName, nodes, ownImages, paths } from './layout.mjs';
import { leftBehind, rememberMachine, removeNetnsFolder } from './machine.mjs';
import * as machine from './node.mjs';
import { alive, attempt, pidFile, run, waitFor } from './process.mjs';

const manifests = fileURLToPath(new URL('manifests/', import.meta.url));
const readyMs = 120_000;

export { setup } from './setup.mjs';

function kubectl(args, options) {
  return attempt(fetchTool('kubectl'), ['--kubeconfig', paths.kubeconfig, ...args], options);
}

function apply(text) {
  const done = kubectl(['apply', '-f', '-'], { input: text });
  if (done.status !== 0) throw new Unmet(`kubectl apply failed: ${done.stderr}`);
}

/** Starts what does not run; on a cluster that runs it only looks. */
export async function up(phase) {
  if (!existsSync(join(paths.images, 'coredns.tar')))
    throw new Unmet(`nothing is built in ${home} yet; run:  node scripts/cluster.mjs setup`);
  mkdirSync(paths.run, { recursive: true });
  rememberMachine();
  await phase('certificates', makeCertificates);
  await phase('control plane', () => {
    plane.makeControlPlaneNetwork();
    plane.startApi();
  });
  for (const node of nodes) {
    await phase(`${node.name}: machine and containerd`, async () => {
      await machine.startMachine(node);
      machine.startContainerd(node);
    });
  }
  for (const node of nodes) {
    await machine.containerdReady(node);
    await phase(`${node.name}: images`, () => {
      const have = machine.imagesOf(node);
      for (const name of ownImages)
        if (!have.has(imageName(name))) machine.loadImage(node, join(paths.images, `${name}.tar`));
    });
  }
  await phase('API server is ready', () =>
    waitFor('the API server is ready', apiReady, { timeoutMs: readyMs, log: 'apiserver' }),
  );
  const started = new Map();
  await phase('controllers, kubelets, DNS', async () => {
    plane.startControllers();
    for (const node of nodes) {
      if (kubectl(['get', 'node', node.name]).status !== 0)
        kubectl(['create', '-f', '-'], { input: nodeObject(node) });
      if (alive(pidFile(`${node.name}-kubelet`)) === undefined) started.set(node.name, Date.now());
      machine.startKubelet(node);
    }
    for (const file of readdirSync(manifests)) apply(readFileSync(join(manifests, file)));
  });
  for (const { name } of nodes)
    await phase(`${name} is ready`, () =>
      waitFor(`${name} is Ready`, () => nodeIsReady(name, started.get(name)), {
        timeoutMs: readyMs,
        log: `${name}-kubelet`,
      }),
    );
  await phase('DNS answers', () =>
    waitFor('CoreDNS answers', dnsAnswers, { timeoutMs: readyMs, log: 'apiserver' }),
  );
}

function apiReady() {
  if (alive(pidFile('apiserver')) === undefined)
    throw new Unmet(`the API server ended; see ${join(paths.logs, 'apiserver.log')}`);
  return kubectl(['get', '--raw', '/readyz']).status === 0;
}

/** What a node said before it was stopped does not count. */
function nodeIsReady(name, sinceMs) {
  const ready = '.status.conditions[?(@.type=="Ready")]';
  const path = `jsonpath={${ready}.status} {${ready}.lastHeartbeatTime}`;
  const [status, at] = (kubectl(['get', 'node', name, '-o', path]).stdout ?? '').split(' ');
  // The time is in whole seconds.
  return status === 'True' && (sinceMs === undefined || Date.parse(at) + 1_000 > sinceMs);
}

function dnsAnswers() {
  const query = ['get', 'pods', '-n', 'kube-system', '-l', 'k8s-app=kube-dns', '-o', 'name'];
  const pods = (kubectl(query).stdout ?? '').trim().split('\n');
  const ready = (pod) =>
    kubectl(['get', '--raw', `/api/v1/namespaces/kube-system/pods/${pod}:8181/proxy/ready`]);
  return pods.some((pod) => pod !== '' && ready(pod.replace('pod/', '')).status === 0);
}

function nodeObject({ name, podCidr }) {
  const spec = { podCIDR: podCidr, podCIDRs: [podCidr] };
  return JSON.stringify({ apiVersion: 'v1', kind: 'Node', metadata: { name }, spec });
}

/** Gives images, as archives, to every node. */
export async function load(phase, files) {
  if (files.length === 0)
    throw new Unmet(
      'which archives? For example:  node scripts/cluster.mjs load dist/images/*.tar',
    );
  for (const node of nodes) {
    if (!machine.isUp(node))
      throw new Unmet(`${node.name} does not run; start it with:  node scripts/cluster.mjs up`);
    for (const file of files)
      await phase(`${node.name}: ${basename(file)}`, () => machine.loadImage(node, resolve(file)));
  }
}

export function status() {
  const parts = [
    ...['etcd', 'apiserver', 'controller-manager', 'scheduler', 'api-forward'],
    ...nodes.flatMap(({ name }) =>
      ['init', 'containerd', 'kubelet', 'proxy'].map((part) => `${name}-${part}`),
    ),
  ];
  const states = parts.map((name) => ({ name, pid: alive(pidFile(name)) }));
  for (const { name, pid } of states) console.log(`${name.padEnd(20)} ${pid ?? 'does not run'}`);
  const running = states.every(({ pid }) => pid !== undefined);
  if (running)
    console.log(
      `\n${run(fetchTool('kubectl'), ['--kubeconfig', paths.kubeconfig, 'get', 'nodes', '-o', 'wide'])}`,
    );
  return running;
}

/** Stops one node, or the whole cluster; state is kept unless it is wiped. */
export async function down(phase, { wipe, only }) {
  const chosen = only.length === 0 ? nodes : only.map(nodeNamed);
  for (const node of chosen) await phase(`${node.name} stops`, () => machine.stopNode(node));
  if (only.length > 0) return [];
  await phase('control plane stops', async () => {
    await plane.stopControlPlane();
    removeNetnsFolder();
  });
  const traces = leftBehind();
  if (wipe)
    await phase('state is removed', () => rmSync(paths.run, { recursive: true, force: true }));
  return traces;
}

function nodeNamed(name) {
  const found = nodes.find((node) => node.name === name);
  if (found === undefined)
    throw new Unmet(
      `there is no node ${name}; there are ${nodes.map((one) => one.name).join(', ')}`,
    );
  return found;
}
