import { MeshError } from '@ambit/core';

const maxNames = 5;
const checkMs = 50;

/**
 * Whether, once in the life of an agent, every pod that is to be in the mesh was seen to be in it or closed: pods must not
 * come back from a restart of the node outside the mesh, and until then the node takes no new ones.
 */
export class FirstLook {
  readonly #unsettled: (except: string | undefined) => readonly string[];
  #over = false;

  /** Takes what tells the pods that were not looked at yet, without the one of the UID that is given. */
  constructor(unsettled: (except: string | undefined) => readonly string[]) {
    this.#unsettled = unsettled;
  }

  /** What is missing; undefined once nothing is. A pod that starts is not waited for by itself. */
  missing(except?: string): string | undefined {
    if (this.#over) return undefined;
    const names = this.#unsettled(except);
    if (names.length === 0) {
      this.#over = except === undefined;
      return undefined;
    }
    const more = names.length > maxNames ? ` and ${names.length - maxNames} more` : '';
    return `the capture of ${names.slice(0, maxNames).join(', ')}${more} is not verified yet; the log says why`;
  }

  /** Resolves once nothing is missing but this pod. Throws what is when that takes too long, or why it need not go on. */
  async passed(except: string, withinMs: number, assertGoesOn: () => void): Promise<void> {
    const deadlineMs = performance.now() + withinMs;
    for (;;) {
      const missing = this.missing(except);
      if (missing === undefined) return;
      if (performance.now() >= deadlineMs)
        throw new MeshError('agent/not-verified', `of the pods that were here before, ${missing}`);
      await new Promise((resolve) => setTimeout(resolve, checkMs));
      assertGoesOn();
    }
  }
}
