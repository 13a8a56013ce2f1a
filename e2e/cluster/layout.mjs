// Where everything of the cluster is and what it is called; no I/O but reading the environment.
import { homedir } from 'node:os';
import { join } from 'node:path';
import { Unmet } from '../../scripts/lib/ensure.mjs';

/** Binaries and state: outside of the clone, so that a clean checkout finds them again. */
export const home =
  process.env.AMBIT_CLUSTER_HOME ??
  join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'ambit-cluster');

/** Of the cluster: several of different names, and ports, can run beside each other. */
export const name = process.env.AMBIT_CLUSTER_NAME ?? 'ambit';
if (!/^[a-z][a-z0-9-]{0,19}$/.test(name))
  throw new Unmet(`AMBIT_CLUSTER_NAME=${name}: it must be 1 to 20 of a-z, 0-9 and -`);
const run = join(home, name === 'ambit' ? 'run' : `run-${name}`);

export const paths = {
  bin: join(home, 'bin'),
  debs: join(home, 'debs'),
  /** Debian's packages, unpacked. */
  system: join(home, 'system'),
  images: join(home, 'images'),
  run,
  logs: join(run, 'log'),
  pki: join(run, 'pki'),
  kubeconfig: join(run, 'kubeconfig'),
  containerd: join(home, 'system/usr/bin/containerd'),
  runc: join(home, 'system/usr/sbin/runc'),
  plugins: join(home, 'system/usr/lib/cni'),
};

export const kubernetesVersion = 'v1.34.4';
export const components = [
  'etcd',
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kubelet',
  'kube-proxy',
];

/** What the cluster itself runs in pods, as `ambit/cluster-NAME:1`. */
export const ownImages = ['pause', 'coredns'];
export const imageName = (name) => `docker.io/ambit/cluster-${name}:1`;

/** The network of the control plane; the bridge that joins the nodes is in it. */
export const controlPlane = { netns: `${name}-control-plane`, bridge: 'fabric', ip: '10.77.0.1' };
/** On the host's loopback. */
export const apiPort = Number(process.env.AMBIT_CLUSTER_API_PORT ?? 16443);
export const insideApi = `https://${controlPlane.ip}:6443`;
export const networks = {
  services: '10.96.0.0/16',
  api: '10.96.0.1',
  dns: '10.96.0.10',
  pods: '10.244.0.0/16',
};

/** As the sandbox calls them, since the samples say where their pods run. */
export const nodes = [1, 2].map((number) => ({
  name: `node-${number}`,
  netns: `${name}-node-${number}`,
  /** In each hierarchy, below that of the process that starts the node. */
  cgroup: `${name}-node-${number}`,
  link: `node${number}`,
  ip: `10.77.0.1${number}`,
  podCidr: `10.244.${number}.0/24`,
  zone: `zone-${number === 1 ? 'a' : 'b'}`,
  dir: join(paths.run, `node-${number}`),
}));

/** Tools of the cluster before those of the machine. */
export const path = [
  paths.bin,
  join(paths.system, 'usr/sbin'),
  join(paths.system, 'usr/bin'),
  process.env.PATH,
  '/usr/local/go/bin',
  '/usr/sbin',
  '/sbin',
].join(':');
