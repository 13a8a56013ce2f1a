import type { Logger, Netns } from '@ambit/core';
import { causeChain, trackOpenConnections } from '@ambit/core';
import { acceptedIn } from './sockets.ts';

/**
 * Connections of a pod from before it was captured. They go on past the proxy, and connection tracking has not seen them:
 * without it the proxy, which connects with the addresses of clients, could come from the port of one that is silent, and
 * the application would take the two for one and reset it.
 */
export class OpenConnections {
  readonly #logger: Logger;
  #told = false;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** To be called when the pod's rules are in place: from then on no connection begins unseen. */
  makeKnown(netns: Netns): void {
    try {
      trackOpenConnections(netns.fd, acceptedIn(netns));
    } catch (error) {
      if (this.#told) return;
      this.#told = true;
      this.#logger.warn(
        { reason: causeChain(error) },
        'connections from before pods join the mesh can be reset while they are silent: connection tracking could not be told of them; it needs nf_conntrack_netlink',
      );
    }
  }
}
