import { access, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { ipBatch, run } from './command.ts';
import {
  controlPlaneCommands,
  network,
  nodeAddresses,
  nodeCommands,
  nodeLink,
  type NodeAddresses,
} from './plan.ts';

export interface NodeNetwork {
  readonly name: string;
  readonly addresses: NodeAddresses;
  /** File that holds the node's network namespace open. */
  readonly netns: string;
}

export interface ClusterNetwork {
  readonly nodes: readonly NodeNetwork[];
  readonly ipv6: boolean;
  close(): Promise<void>;
}

const netnsDirectory = '/run/netns';

/**
 * Makes the nodes' network namespaces and joins them by a bridge to the caller's namespace, which
 * becomes the control plane. Meant to run in a namespace of its own: it takes fixed names and addresses.
 */
export async function createClusterNetwork(names: readonly string[]): Promise<ClusterNetwork> {
  await mkdir(netnsDirectory, { recursive: true });
  const ipv6 = await exists('/proc/sys/net/ipv6');
  const nodes = names.map((name, i) => ({
    name,
    addresses: nodeAddresses(i + 1),
    netns: join(netnsDirectory, name),
  }));
  await ipBatch(nodes.map((node) => `netns add ${node.name}`));
  await Promise.all([
    setForwarding(undefined, ipv6),
    ...nodes.map((node) => setForwarding(node.netns, ipv6)),
  ]);
  await ipBatch(controlPlaneCommands(nodes, ipv6));
  await Promise.all(
    nodes.map((node) => {
      const others = nodes.filter((other) => other !== node).map((other) => other.addresses);
      return ipBatch(nodeCommands(node.addresses, others, ipv6), node.netns);
    }),
  );
  return { nodes, ipv6, close: () => closeNetwork(nodes) };
}

async function closeNetwork(nodes: readonly NodeNetwork[]): Promise<void> {
  await ipBatch([
    // The kernel ends a namespace a little after its last user; its links should not wait for that.
    ...nodes.map((node) => `link del ${nodeLink(node.addresses)}`),
    `link del ${network.bridge}`,
    ...nodes.map((node) => `netns del ${node.name}`),
  ]);
}

/** Lets a namespace route between its links, and answer at once on addresses it was just given. */
async function setForwarding(netns: string | undefined, ipv6: boolean): Promise<void> {
  const settings = [
    'ipv4/ip_forward=1',
    'ipv4/conf/all/rp_filter=0',
    'ipv4/conf/default/rp_filter=0',
  ];
  if (ipv6) {
    settings.push('ipv6/conf/all/forwarding=1', 'ipv6/conf/default/forwarding=1');
    settings.push('ipv6/conf/all/accept_dad=0', 'ipv6/conf/default/accept_dad=0');
  }
  const script = settings
    .map((setting) => setting.split('='))
    .map(([path, value]) => `echo ${value ?? ''} > /proc/sys/net/${path ?? ''}`)
    .join('\n');
  await run('sh', ['-ec', script], netns === undefined ? {} : { netns });
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
