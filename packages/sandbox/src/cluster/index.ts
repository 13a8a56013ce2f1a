import { mkdir, rm } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { openNetns, warmThreadpool } from '@ambit/core';
import { installInterfacePlugin } from '../cni/install.ts';
import { startClusterDns } from '../dns/server.ts';
import { createEventRecorder } from '../kubelet/events.ts';
import type { ImageCatalogue, ImageEntry } from '../kubelet/images.ts';
import { systemPath } from '../kubelet/process.ts';
import { startKubelet, type Kubelet } from '../kubelet/kubelet.ts';
import type { NodeContext } from '../kubelet/node-context.ts';
import { registerNode, startNodeStatus, type NodeIdentity } from '../kubelet/node-status.ts';
import type { KubeletProxy } from '../apiserver/index.ts';
import { createKubeletProxy } from '../kubelet/streaming/proxy.ts';
import type { TokenIssuer } from '../kubelet/volumes.ts';
import { run, runToEnd } from '../net/command.ts';
import { dial, dialFrom } from '../net/dial.ts';
import { createClusterNetwork, type ClusterNetwork, type NodeNetwork } from '../net/nodes.ts';
import { network } from '../net/plan.ts';
import { startServiceProxy, virtualAddresses } from '../net/service-proxy.ts';
import { ensureClusterObjects } from './bootstrap.ts';
import { startControllers } from './controllers.ts';
import { resources, type ClusterStore } from './store.ts';
import type { ClusterLogger } from './work-queue.ts';

export interface ClusterOptions {
  readonly store: ClusterStore;
  readonly tokens: TokenIssuer;
  /** Where the nodes' files live; emptied of them when the cluster closes. */
  readonly runDir: string;
  /** Directories of the machine that every container sees, wherever they lie: those of the images' programs. */
  readonly shared?: readonly string[];
  readonly nodes: readonly {
    readonly name: string;
    readonly zone: string;
    readonly region: string;
  }[];
  readonly images: ImageCatalogue;
  readonly logger: ClusterLogger;
  /** Where the Kubernetes API listens in the control plane's network. */
  readonly apiAddress: { readonly host: string; readonly port: number };
  /** PEM of the authority of the API's certificate, for `kube-root-ca.crt`. */
  readonly apiCa: string;
  /** Zone of service names; `cluster.local` by default. */
  readonly domain?: string;
}

export interface ClusterNode {
  readonly name: string;
  readonly root: string;
  readonly netns: string;
  readonly kubelet: Kubelet;
}

export interface Cluster {
  readonly nodes: readonly ClusterNode[];
  readonly network: ClusterNetwork;
  /** Answers `log`, `exec` and `attach` of pods for the API. */
  readonly kubeletProxy: KubeletProxy;
  /** Connects to a service's port from the control plane, by service port number or name. */
  dialService(namespace: string, name: string, port: number | string): Promise<Socket>;
  /** Resolves once the services known now work on every node. */
  sync(): Promise<void>;
  /** Ends every pod, process, namespace and rule of the cluster. */
  close(): Promise<void>;
}

const dialTimeoutMs = 10_000;

/** Starts the cluster around an API: network, nodes, controllers, service addresses and names. */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const { store, logger } = options;
  const domain = options.domain ?? 'cluster.local';
  const closers: (() => Promise<unknown>)[] = [];
  // Probes connect from the nodes' namespaces: no thread may start inside one.
  await warmThreadpool();
  const clusterNetwork = await createClusterNetwork(options.nodes.map((node) => node.name));
  closers.push(() => clusterNetwork.close());
  const close = async (): Promise<void> => {
    for (const closer of closers.splice(0).toReversed()) await closer();
  };
  try {
    await ensureClusterObjects(store, { ...options, ipv6: clusterNetwork.ipv6 });
    const dnsAddresses = [
      network.controlPlane.v4,
      ...(clusterNetwork.ipv6 ? [network.controlPlane.v6] : []),
    ];
    const dns = await startClusterDns({ store, logger, domain, addresses: dnsAddresses });
    closers.push(() => dns.close());
    const proxy = startServiceProxy({
      store,
      logger,
      ipv6: clusterNetwork.ipv6,
      targets: [
        {},
        ...clusterNetwork.nodes.map((node) => ({ node: node.name, netns: node.netns })),
      ],
    });
    closers.push(() => proxy.close());
    await proxy.sync();
    const nodes = await Promise.all(
      clusterNetwork.nodes.map((node, i) =>
        startNode(options, clusterNetwork, node, options.nodes[i]),
      ),
    );
    closers.push(() => Promise.all(nodes.map((node) => node.close())));
    const controllers = startControllers({ store, logger }, { apiCa: options.apiCa });
    closers.push(() => controllers.close());
    return {
      nodes,
      network: clusterNetwork,
      kubeletProxy: createKubeletProxy(
        nodes.map((node) => node.kubelet),
        logger,
      ),
      dialService: (namespace, name, port) => dialService(store, namespace, name, port),
      sync: () => proxy.sync(),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function startNode(
  options: ClusterOptions,
  clusterNetwork: ClusterNetwork,
  node: NodeNetwork,
  labels: ClusterOptions['nodes'][number] | undefined,
): Promise<ClusterNode & { close(): Promise<void> }> {
  const { store, logger } = options;
  const root = join(options.runDir, 'nodes', node.name);
  const directories = [
    'var/run/netns',
    'var/run/ztunnel',
    'var/run/istio-cni',
    'var/lib/cni',
    'var/lib/kubelet',
    'tmp',
  ];
  await Promise.all(
    directories.map((directory) => mkdir(join(root, directory), { recursive: true })),
  );
  // Namespaces made later must show up in containers that mounted this directory before.
  const netnsDirectory = join(root, 'var/run/netns');
  await run('mount', ['--bind', netnsDirectory, netnsDirectory]);
  await run('mount', ['--make-shared', netnsDirectory]);
  const confDir = join(root, 'etc/cni/net.d');
  const binDir = join(root, 'opt/cni/bin');
  await installInterfacePlugin({
    confDir,
    binDir,
    dataDir: join(root, 'var/lib/cni/sandbox-ptp'),
    subnet: node.addresses.podCidr4,
    subnet6: clusterNetwork.ipv6 ? node.addresses.podCidr6 : undefined,
  });
  const identity: NodeIdentity = {
    name: node.name,
    zone: labels?.zone ?? '',
    region: labels?.region ?? '',
    addresses: node.addresses,
    ipv6: clusterNetwork.ipv6,
  };
  await registerNode(store, identity);
  const netns = openNetns(node.netns);
  const context: NodeContext = {
    name: node.name,
    root,
    netns: node.netns,
    ips: [node.addresses.v4, ...(clusterNetwork.ipv6 ? [node.addresses.v6] : [])],
    cni: {
      confDir,
      binDir,
      cacheDir: join(root, 'var/lib/cni/results'),
      netns: node.netns,
      runDir: join(root, 'var/run'),
    },
    store,
    tokens: options.tokens,
    images: options.images,
    logger,
    events: createEventRecorder(store, logger, 'kubelet', node.name),
    dns: { servers: [network.dnsService.v4], domain: options.domain ?? 'cluster.local' },
    api: { host: network.apiService.v4, port: 443 },
    shared: options.shared ?? [],
    hidden: ['/run', ...(options.runDir.startsWith('/run/') ? [] : [options.runDir])],
    connect: (host, port, signal) => dialFrom(netns, host, port, signal),
  };
  const status = startNodeStatus(store, logger, identity, confDir);
  const kubelet = await startKubelet(context);
  return {
    name: node.name,
    root,
    netns: node.netns,
    kubelet,
    async close() {
      await status.close();
      await kubelet.close();
      netns.close();
      await runToEnd('umount', ['-l', netnsDirectory]);
      await rm(root, { recursive: true, force: true });
    },
  };
}

async function dialService(
  store: ClusterStore,
  namespace: string,
  name: string,
  port: number | string,
): Promise<Socket> {
  const service = await store.get(resources.services, namespace, name);
  if (service === undefined) throw new Error(`there is no Service ${namespace}/${name}`);
  const declared = (service.spec.ports ?? []).find((p) => p.port === port || p.name === port);
  if (declared === undefined) throw new Error(`Service ${namespace}/${name} has no port ${port}`);
  const slices = await store.list(resources.endpointSlices, { namespace });
  const served = virtualAddresses([service], slices, undefined).filter(
    (a) => a.port === declared.port,
  );
  const address = served.find((a) => a.backends.length > 0);
  if (address === undefined) throw new Error(`Service ${namespace}/${name} has no ready endpoint`);
  return dial(address.ip, address.port, AbortSignal.timeout(dialTimeoutMs));
}

/** The image that the samples' manifests name: plain Node scripts below `samples` of the clone. */
export function samplesImage(root: string): ImageEntry {
  const samples = join(root, 'samples');
  return {
    name: 'ambit/samples',
    command: ['node'],
    workingDir: samples,
    // The machine's own curl comes first; the samples' stands in where there is none.
    env: { PATH: `${dirname(process.execPath)}:${systemPath}:${join(samples, 'tools/bin')}` },
  };
}

export { adaptStore } from './adapt-store.ts';
export type { ClusterStore } from './store.ts';
export type { ClusterLogger } from './work-queue.ts';
export type { ImageCatalogue, ImageEntry } from '../kubelet/images.ts';
export type { PodTokenRequest, TokenIssuer } from '../kubelet/volumes.ts';
