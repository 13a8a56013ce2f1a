import type { IpAddress } from '@ambit/api';
import { proxyMarkMask } from '@ambit/api';
import type { Logger, Netns, TrackedConnection } from '@ambit/core';
import {
  causeChain,
  errnoCode,
  listConnections,
  trackConnections,
  untrackConnections,
} from '@ambit/core';
import { connectionsIn, hasOneOf } from './sockets.ts';
import { planTracking, translatedSides } from './tracking-plan.ts';

/** In each round those of the one before are looked at again; after so many, all but a storm has come to rest. */
const maxRounds = 4;
/** Told at a time; in between the agent does other work. */
const batch = 512;
/** What a kernel says that has no `nf_conntrack_netlink`. */
const unsupported = new Set(['EPROTONOSUPPORT', 'EOPNOTSUPP', 'EINVAL']);

/**
 * What the kernel's connection tracking knows in pods. It works where there are rules, so of connections from before a pod
 * was captured it knows nothing until their next packet: the proxy, which connects with the addresses of clients, could come
 * from the port of one that is silent, and the application would take the two for one and reset it. And what it believes
 * open that has ended unseen holds its ports: nobody could connect from them.
 */
export class ConnectionTracking {
  readonly #logger: Logger;
  #told = false;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** To be called when a pod's rules are in place: from then on no connection begins unseen. Never rejects. */
  async makeKnown(netns: Netns, addresses: readonly IpAddress[]): Promise<void> {
    try {
      for (let round = 1; round <= maxRounds; round += 1) {
        const known = this.#list(netns, 'all');
        if (known === undefined) return;
        // What a connection does between this look and the telling is not seen; so all is looked at once more.
        const { forget, tell } = planTracking(connectionsIn(netns, addresses), known, addresses);
        if (forget.length + tell.length === 0) return;
        await inBatches(forget, (some) => untrackConnections(netns.fd, some));
        if (round < maxRounds) await inBatches(tell, (some) => trackConnections(netns.fd, some));
      }
    } catch (error) {
      this.#logger.warn(
        { netns: netns.inode, reason: causeChain(error) },
        'connections from before a pod joined the mesh can be reset while they are silent: connection tracking could not be told of them',
      );
    }
  }

  /** Whether a connection of the pod lives by translation alone that is none of the proxy's. Throws what the kernel says. */
  hasTranslated(netns: Netns): boolean {
    return hasOneOf(netns, translatedSides(this.#list(netns, 'translated') ?? []));
  }

  /** But for what the proxy delivers. Undefined where the kernel does not tell. */
  #list(netns: Netns, which: 'all' | 'translated'): TrackedConnection[] | undefined {
    try {
      return listConnections(netns.fd, proxyMarkMask, which);
    } catch (error) {
      if (!unsupported.has(errnoCode(error) ?? '')) throw error;
      if (this.#told) return undefined;
      this.#told = true;
      this.#logger.warn(
        { reason: causeChain(error) },
        'the kernel has no nf_conntrack_netlink: connections that are open when pods join or leave the mesh can be cut by chance',
      );
      return undefined;
    }
  }
}

async function inBatches<T>(all: readonly T[], work: (some: readonly T[]) => void): Promise<void> {
  for (let first = 0; first < all.length; first += batch) {
    if (first > 0) await new Promise((resolve) => setImmediate(resolve));
    work(all.slice(first, first + batch));
  }
}
