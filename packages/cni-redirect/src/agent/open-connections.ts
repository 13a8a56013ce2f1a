import { formatSocketAddress } from '@ambit/api';
import type { Logger, Netns, OpenConnection } from '@ambit/core';
import { causeChain, trackConnections, untrackConnections } from '@ambit/core';
import { connectionsIn } from './sockets.ts';

/** In each round those of the one before are looked at again; with so many, all but a storm has come to rest. */
const maxRounds = 4;

/**
 * Connections of a pod from before it was captured. They go on past the proxy, and connection tracking has not seen them:
 * without it the proxy, which connects with the addresses of clients, could come from the port of one that is silent, and
 * the application would take the two for one and reset it. And one of which the last packets alone were seen would hold its
 * ports for minutes.
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
      makeKnown(netns);
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

/**
 * What a connection does between the look at it and the telling is not seen by connection tracking. So what was told is
 * looked at once more, and taken back unless it is as it was.
 */
function makeKnown(netns: Netns): void {
  let told: OpenConnection[] = [];
  for (let round = 1; round <= maxRounds; round += 1) {
    const found = connectionsIn(netns);
    const foundKeys = new Set(found.map(keyOf));
    const changed = told.filter((one) => !foundKeys.has(keyOf(one)));
    if (round > 1 && changed.length === 0) return;
    untrackConnections(netns.fd, changed);
    if (round < maxRounds) told = trackConnections(netns.fd, found);
  }
}

function keyOf({ client, server, stage }: OpenConnection): string {
  return `${formatSocketAddress(client)} ${formatSocketAddress(server)} ${stage}`;
}
