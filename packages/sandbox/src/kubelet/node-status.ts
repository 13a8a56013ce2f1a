import { release } from 'node:os';
import type { Condition, Node } from '../cluster/objects.ts';
import { mutate, resources, type ClusterStore } from '../cluster/store.ts';
import { describe, type ClusterLogger } from '../cluster/work-queue.ts';
import type { NodeAddresses } from '../net/plan.ts';
import { isNetworkConfigured } from './cni.ts';

export interface NodeIdentity {
  readonly name: string;
  readonly zone: string;
  readonly region: string;
  readonly addresses: NodeAddresses;
  readonly ipv6: boolean;
}

const leaseNamespace = 'kube-node-lease';
const leaseSeconds = 40;
const renewEveryMs = 10_000;
const checkEveryMs = 250;

/** Creates or updates the Node object. */
export async function registerNode(store: ClusterStore, identity: NodeIdentity): Promise<void> {
  const { name, zone, region, addresses, ipv6 } = identity;
  const labels = {
    'kubernetes.io/hostname': name,
    'kubernetes.io/os': 'linux',
    'kubernetes.io/arch': process.arch === 'x64' ? 'amd64' : process.arch,
    'topology.kubernetes.io/zone': zone,
    'topology.kubernetes.io/region': region,
  };
  const spec = {
    podCIDR: addresses.podCidr4,
    podCIDRs: ipv6 ? [addresses.podCidr4, addresses.podCidr6] : [addresses.podCidr4],
  };
  const known = await mutate(store, resources.nodes, { namespace: '', name }, (node) => {
    node.metadata.labels = { ...node.metadata.labels, ...labels };
    node.spec = { ...node.spec, ...spec };
    return true;
  });
  if (known !== undefined) return;
  await store.create(resources.nodes, {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels },
    spec,
  });
}

/** Keeps the Node's status and lease: Ready while a network configuration exists. */
export function startNodeStatus(
  store: ClusterStore,
  logger: ClusterLogger,
  identity: NodeIdentity,
  confDir: string,
): { close(): Promise<void> } {
  let lastReady: boolean | undefined;
  let renewedAtMs = 0;
  let closed = false;
  let work: Promise<void> = Promise.resolve();

  async function tick(): Promise<void> {
    const ready = await isNetworkConfigured(confDir);
    const due = Date.now() - renewedAtMs >= renewEveryMs;
    if (ready === lastReady && !due) return;
    await writeStatus(store, identity, ready);
    if (due) await renewLease(store, identity.name);
    if (due) renewedAtMs = Date.now();
    lastReady = ready;
  }

  const timer = setInterval(next, checkEveryMs);
  function next(): void {
    work = work
      .then(() => (closed ? undefined : tick()))
      .catch((error: unknown) =>
        logger.debug(
          { node: identity.name, error: describe(error) },
          'node status was not written',
        ),
      );
  }
  next();
  return {
    async close() {
      closed = true;
      clearInterval(timer);
      await work;
    },
  };
}

async function writeStatus(
  store: ClusterStore,
  identity: NodeIdentity,
  ready: boolean,
): Promise<void> {
  const now = `${new Date().toISOString().slice(0, 19)}Z`;
  const { name, addresses, ipv6 } = identity;
  await mutate(
    store,
    resources.nodes,
    { namespace: '', name },
    (node: Node) => {
      const before = node.status?.conditions ?? [];
      const conditions = conditionsOf(ready).map((condition): Condition => {
        const old = before.find((c) => c.type === condition.type);
        const since = old?.status === condition.status ? old.lastTransitionTime : undefined;
        return { ...condition, lastHeartbeatTime: now, lastTransitionTime: since ?? now };
      });
      const resourcesOfNode = { cpu: '2', memory: '4Gi', pods: '250', 'ephemeral-storage': '10Gi' };
      node.status = {
        ...node.status,
        conditions,
        addresses: [
          { type: 'InternalIP', address: addresses.v4 },
          ...(ipv6 ? [{ type: 'InternalIP', address: addresses.v6 }] : []),
          { type: 'Hostname', address: name },
        ],
        capacity: resourcesOfNode,
        allocatable: resourcesOfNode,
        nodeInfo: {
          kubeletVersion: 'v1.34.0-sandbox',
          kubeProxyVersion: '',
          containerRuntimeVersion: 'sandbox://1.0',
          kernelVersion: release(),
          osImage: 'Ambit sandbox',
          operatingSystem: 'linux',
          architecture: process.arch === 'x64' ? 'amd64' : process.arch,
          machineID: name,
          systemUUID: name,
          bootID: name,
        },
        daemonEndpoints: { kubeletEndpoint: { Port: 10250 } },
      };
      return true;
    },
    'status',
  );
}

function conditionsOf(ready: boolean): Condition[] {
  const fine = (type: string, reason: string): Condition => ({
    type,
    status: 'False',
    reason,
    message: reason,
  });
  return [
    fine('MemoryPressure', 'KubeletHasSufficientMemory'),
    fine('DiskPressure', 'KubeletHasNoDiskPressure'),
    fine('PIDPressure', 'KubeletHasSufficientPID'),
    ready
      ? {
          type: 'Ready',
          status: 'True',
          reason: 'KubeletReady',
          message: 'kubelet is posting ready status',
        }
      : {
          type: 'Ready',
          status: 'False',
          reason: 'KubeletNotReady',
          message:
            'container runtime network not ready: NetworkPluginNotReady: no CNI configuration file in /etc/cni/net.d',
        },
  ];
}

async function renewLease(store: ClusterStore, name: string): Promise<void> {
  const spec = {
    holderIdentity: name,
    leaseDurationSeconds: leaseSeconds,
    renewTime: new Date().toISOString().replace('Z', '000Z'),
  };
  const known = await mutate(
    store,
    resources.leases,
    { namespace: leaseNamespace, name },
    (lease) => {
      lease.spec = { ...lease.spec, ...spec };
      return true;
    },
  );
  if (known !== undefined) return;
  await store.create(resources.leases, {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { name, namespace: leaseNamespace },
    spec,
  });
}
