import type { Logger, Netns } from '@ambit/core';
import { causeChain, makeNetns } from '@ambit/core';
import { applyNft, listPodTable } from './run.ts';

/** What is in a pod's network namespace, compared with what was put there. */
export type RulesState = 'in-force' | 'changed' | 'gone';

/** Pods differ in their probe ports alone, so a node has few scripts; what is forgotten is learned again. */
const maxScripts = 256;

/**
 * Tells whether a pod's rules are those that were put there. Whoever has CAP_NET_ADMIN in a pod can change them, and so what
 * nft lists of them is not learned there but in a namespace of the agent's own.
 */
export class RulesInForce {
  /** What nft lists, by the script that was carried out. */
  readonly #listings = new Map<string, Promise<string | undefined>>();
  readonly #logger: Logger;
  #told = false;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  async stateOf(netns: Netns, script: string): Promise<RulesState> {
    const [found, wanted] = await Promise.all([listPodTable(netns), this.#listingOf(script)]);
    if (found === undefined) return 'gone';
    return wanted === undefined || found === wanted ? 'in-force' : 'changed';
  }

  /** Undefined where it could not be learned: then all that shows is whether there are rules. */
  #listingOf(script: string): Promise<string | undefined> {
    let listing = this.#listings.get(script);
    if (listing === undefined) {
      if (this.#listings.size >= maxScripts) this.#listings.clear();
      listing = learn(script).catch((error: unknown) => this.#failed(script, error));
      this.#listings.set(script, listing);
    }
    return listing;
  }

  #failed(script: string, error: unknown): undefined {
    this.#listings.delete(script);
    if (this.#told) return;
    this.#told = true;
    this.#logger.warn(
      { reason: causeChain(error) },
      'changed rules of pods go unnoticed: no namespace could be made to compare them with',
    );
  }
}

async function learn(script: string): Promise<string | undefined> {
  const netns = makeNetns();
  try {
    await applyNft(netns, script);
    return await listPodTable(netns);
  } finally {
    netns.close();
  }
}
