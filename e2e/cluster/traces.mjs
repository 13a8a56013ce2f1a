// What the mesh has put into a cluster and on its nodes. After an uninstall only what docs/install.md names may be left.
//   node e2e/cluster/traces.mjs KUBECONFIG [--nodes]    prints a line for each; with --nodes those of this folder's cluster
import { pathToFileURL } from 'node:url';
import { fetchTool } from '../../scripts/lib/layer.mjs';
import { nodes } from './layout.mjs';
import { isUp, onNode } from './node.mjs';
import { attempt, run } from './process.mjs';

const systemNamespace = 'istio-system';
const ofMesh = /ambit|ztunnel|cni-redirect|istio/;
/** Kubernetes makes these in every namespace. */
const ofKubernetes = new Set(['ConfigMap kube-root-ca.crt', 'ServiceAccount default']);
/** Definitions stay by helm's rule, since users' objects hang on them; an Event ends by itself within the hour. */
const leftOut = new Set(['CustomResourceDefinition', 'Event', 'APIService']);
/** What users, and `ambitctl` for them, write in our words: these say what they want, and stay. */
const ofUsers =
  /^(istio\.io\/(dataplane-mode|use-waypoint|use-waypoint-namespace|waypoint-for|ingress-use-waypoint|rev)|ambit\.dev\/validation)$/;
/** What the API server wrote itself of who wrote what. */
const writers = new Set(['ambit-webhook', 'ambit-gateway-deployer']);

/** Every object of every kind that can be listed, held against `traceOf`. */
export function tracesInCluster(kubeconfig) {
  const kubectl = (...args) => run(fetchTool('kubectl'), ['--kubeconfig', kubeconfig, ...args]);
  const kinds = kubectl('api-resources', '--verbs=list', '-o', 'name').trim().split('\n');
  const asked = kinds.filter((kind) => !/^(events|apiservices|componentstatuses)(\.|$)/.test(kind));
  const all = ['get', asked.join(','), '-A', '-o', 'json', '--show-managed-fields'];
  const { items } = JSON.parse(kubectl(...all, '--chunk-size=0'));
  return items.flatMap(traceOf);
}

/** What of an object is the mesh's, as `Kind namespace/name: what`. */
export function traceOf({ apiVersion, kind, metadata }) {
  const { name, namespace, labels = {}, annotations = {}, finalizers = [] } = metadata;
  if (leftOut.has(kind)) return [];
  const where = `${kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`;
  const ofOurApi = /(istio\.io|ambit\.dev)\//.test(apiVersion);
  const inOurs = namespace === systemNamespace && !ofKubernetes.has(`${kind} ${name}`);
  const isOurs = inOurs || (!ofOurApi && ofMesh.test(name) && name !== systemNamespace);
  if (isOurs || labels['app.kubernetes.io/part-of'] === 'ambit') return [where];
  const words = [
    ...Object.keys(labels).map((key) => ['label', key]),
    ...Object.keys(annotations).map((key) => ['annotation', key]),
    ...finalizers.map((key) => ['finalizer', key]),
  ].filter(([, key]) => ofMesh.test(key) && !ofUsers.test(key));
  // Status is what was last said of a user's object; docs/install.md says that it stays.
  const fields = (metadata.managedFields ?? [])
    .filter(({ manager, subresource }) => writers.has(manager) && subresource !== 'status')
    .map(({ manager }) => ['field of', manager]);
  return [...words, ...fields].map(([what, key]) => `${where}: ${what} ${key}`);
}

/** What is looked at in the network of a node and in that of each of its pods, beside listeners. */
const looks = [
  ['nft', ['list', 'tables']],
  ['ip', ['rule']],
  ['ip', ['-6', 'rule']],
  ['ip', ['route', 'show', 'table', 'all']],
  ['ip', ['-6', 'route', 'show', 'table', 'all']],
];
const podTable = 'table inet ambit';
const ownPorts = /:(15001|15006|15008|15053)$/;
const usualRule = /^(0:\s+from all lookup local|3276[67]:\s+from all lookup (main|default))\s*$/;

/** Files, rules, routes and listeners on the nodes of the cluster of this folder. */
export function tracesOnNodes() {
  return nodes.filter(isUp).flatMap((node) => {
    const on = (command, args) => attempt(...onNode(node, command, args));
    const at = (what) => `${node.name}: ${what}`;
    return [...files(on), ...networks(on)].map(at);
  });
}

function files(on) {
  const lines = (...args) => (on('find', args).stdout ?? '').trim().split('\n').filter(Boolean);
  const configurations = lines('/etc/cni/net.d', '-type', 'f');
  return [
    ...configurations.filter((file) => ofMesh.test(file + on('cat', [file]).stdout)),
    ...lines('/opt/cni/bin').filter((file) => ofMesh.test(file)),
    ...lines('/var/run/istio-cni', '/var/run/ztunnel', '!', '-type', 'd'),
    // What opens no more once the key below /var/run is gone.
    ...lines('/var/lib/ambit', '-type', 'f').filter(
      (file) => file !== '/var/lib/ambit/ztunnel/state',
    ),
  ];
}

function networks(on) {
  const pods = (on('ls', ['/var/run/netns']).stdout ?? '').trim().split('\n');
  return ['', ...pods.filter((name) => name.startsWith('cni-'))].flatMap((pod) => {
    const inside = pod === '' ? [] : [`--net=/var/run/netns/${pod}`, '--'];
    const look = (command, args) =>
      pod === '' ? on(command, args) : on('nsenter', [...inside, command, ...args]);
    const said = looks.flatMap(([command, args]) => {
      const { stdout = '' } = look(command, args);
      return stdout
        .trim()
        .split('\n')
        .filter((line) => isTrace(command, args, line))
        .filter(
          (line) =>
            line !== podTable || takesSomething(look('nft', ['list', ...podTable.split(' ')])),
        );
    });
    const { stdout = '' } = look('ss', ['-Htln']);
    const listeners = stdout
      .split('\n')
      .map((line) => line.trim().split(/\s+/)[3] ?? '')
      .filter((address) => pod !== '' && ownPorts.test(address));
    const who = pod === '' ? 'node' : pod;
    return [...said, ...listeners.map((one) => `listens on ${one}`)].map((one) => `${who} ${one}`);
  });
}

/** A table that only translates stays where a connection needs it; docs/install.md says so. */
function takesSomething({ stdout = '' }) {
  return stdout === '' || /redirect|drop/.test(stdout);
}

function isTrace(command, args, line) {
  if (line === '') return false;
  if (command === 'nft') return ofMesh.test(line);
  if (args.includes('rule')) return !usualRule.test(line);
  return /169\.254\.7\.127|fd16:9254|table \d/.test(line);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [kubeconfig = '', which] = process.argv.slice(2);
  const all = [...tracesInCluster(kubeconfig), ...(which === '--nodes' ? tracesOnNodes() : [])];
  process.stdout.write(all.map((one) => `${one}\n`).join(''));
}
