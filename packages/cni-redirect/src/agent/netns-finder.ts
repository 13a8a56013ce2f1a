import { readdirSync, statSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { basename, join } from 'node:path';
import type { IpAddress } from '@ambit/api';
import { parseIp } from '@ambit/api';
import type { Netns } from '@ambit/core';
import { MeshError, inNetns, netnsInode, openNetns } from '@ambit/core';
import type { PodRecord, PodRecords } from './records.ts';

/** A pod's namespace, opened; whoever gets it closes it. */
export interface FoundNetns {
  readonly path: string;
  readonly netns: Netns;
  readonly addresses: readonly IpAddress[];
}

/** A namespace as the runtime names it. */
export interface HostNetns {
  readonly netns: string;
  readonly netnsInode: string | undefined;
}

/**
 * Opens a namespace by what the runtime says of it, and reads its addresses. The name alone may be none that the agent
 * has: cri-dockerd says `/proc/<pid>/ns/net` of what Docker keeps under another name. The number is then the same.
 */
export function openByHostPath(netnsDir: string, { netns, netnsInode }: HostNetns): FoundNetns {
  if (netnsInode === undefined) return open(join(netnsDir, basename(netns)));
  const isIt = (name: string): boolean => inodeIn(netnsDir, name) === netnsInode;
  const name = [basename(netns), ...readdirSync(netnsDir)].find(isIt);
  if (name !== undefined) return open(join(netnsDir, name));
  throw new MeshError(
    'agent/unknown-netns',
    `${netns} is none of the network namespaces in ${netnsDir}; set cniNetnsDir of the charts cni-redirect and ztunnel to the directory where this node's container runtime keeps them`,
  );
}

function inodeIn(netnsDir: string, name: string): string | undefined {
  try {
    return netnsInode(join(netnsDir, name));
  } catch {
    return undefined;
  }
}

function open(path: string): FoundNetns {
  const netns = openNetns(path);
  if (netns.inode === netnsInode('/proc/self/ns/net')) {
    netns.close();
    throw new MeshError('agent/host-netns', `${path} is the node's own network namespace`);
  }
  return { path, netns, addresses: addressesIn(netns) };
}

/** Times in a pod's status have whole seconds. */
const clockSlackMs = 1_500;

/** What of a pod tells which namespace is its own. */
export interface NetnsOwner {
  readonly uid: string;
  readonly addresses: readonly IpAddress[];
  readonly startedAtMs: number | undefined;
}

/**
 * Finds a running pod's namespace: by the record of its start, else by its address. An address alone can be an old
 * one, from before the node's restart, that another pod has by now: a namespace made after the pod's containers began
 * is never taken.
 */
export function findNetns(
  netnsDir: string,
  records: PodRecords,
  pod: NetnsOwner,
): FoundNetns | undefined {
  const record = records.get(pod.uid);
  const recorded = record && openRecorded(netnsDir, record);
  if (recorded !== undefined && owns(recorded, pod.addresses)) return recorded;
  recorded?.netns.close();
  const others = new Set(
    records.all().flatMap(({ uid, netns }) => (uid === pod.uid ? [] : [netns])),
  );
  for (const name of readdirSync(netnsDir)) {
    if (others.has(name)) continue;
    const found = tryOpen(netnsDir, name);
    if (found === undefined) continue;
    if (pod.addresses.length > 0 && owns(found, pod.addresses) && !isYounger(found, pod)) {
      records.set({ uid: pod.uid, netns: name, inode: found.netns.inode } satisfies PodRecord);
      return found;
    }
    found.netns.close();
  }
  return undefined;
}

/** Opens the namespace of a record; undefined where it is gone, also when another one has its name by now. */
export function openRecorded(
  netnsDir: string,
  { netns, inode }: Pick<PodRecord, 'netns' | 'inode'>,
): FoundNetns | undefined {
  const found = tryOpen(netnsDir, netns);
  if (found === undefined || found.netns.inode === inode) return found;
  found.netns.close();
  return undefined;
}

/** True when the namespace has every address of the pod: then it is that pod's and nobody else's. */
function owns(found: FoundNetns, addresses: readonly IpAddress[]): boolean {
  return addresses.every((ip) => found.addresses.includes(ip));
}

/** Refuses a namespace that the runtime names for a pod and that is another's. */
export function assertOwns(
  found: FoundNetns,
  pod: {
    readonly netns: string;
    readonly namespace: string;
    readonly name: string;
    readonly addresses: readonly IpAddress[];
  },
): void {
  if (owns(found, pod.addresses)) return;
  throw new MeshError(
    'agent/foreign-netns',
    `${pod.netns} lacks the addresses of pod ${pod.namespace}/${pod.name}`,
  );
}

function isYounger({ path }: FoundNetns, { startedAtMs }: NetnsOwner): boolean {
  return startedAtMs !== undefined && statSync(path).ctimeMs > startedAtMs + clockSlackMs;
}

function tryOpen(netnsDir: string, name: string): FoundNetns | undefined {
  try {
    return open(join(netnsDir, name));
  } catch {
    return undefined;
  }
}

function addressesIn(netns: Netns): IpAddress[] {
  const interfaces = inNetns(netns.fd, () => networkInterfaces());
  return Object.values(interfaces)
    .flatMap((addresses) => addresses ?? [])
    .filter(({ internal }) => !internal)
    .flatMap(({ address }) => {
      const ip = parseIp(address);
      return ip.ok ? [ip.value] : [];
    });
}
