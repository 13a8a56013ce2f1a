import type { ProbeTarget } from '../rules/node.ts';
import { renderNodeRules } from '../rules/node.ts';
import { runOnNode } from '../rules/run.ts';
import type { PodFacts } from './enrol.ts';

/** The node's own rules: which ports of which captured pods the kubelet asks. Written one after the other. */
export class ProbeRules {
  readonly #targets = new Map<string, readonly ProbeTarget[]>();
  readonly #run: (nft: string) => Promise<void>;
  #written = Promise.resolve();
  /** The write that has not begun yet: it holds whatever is known by then. */
  #next: Promise<void> | undefined;

  constructor(run: (nft: string) => Promise<void> = runOnNode) {
    this.#run = run;
  }

  /** Of a pod that an agent before this one had captured: a write for another one must not take its probes away. */
  know({ uid, addresses, probePorts }: PodFacts): void {
    this.#targets.set(
      uid,
      addresses.flatMap((ip) => probePorts.map((port) => ({ ip, port }))),
    );
  }

  set(facts: PodFacts): Promise<void> {
    this.know(facts);
    return this.#write();
  }

  async delete(uid: string): Promise<void> {
    if (this.#targets.delete(uid)) await this.#write();
  }

  #write(): Promise<void> {
    this.#next ??= this.#written.then(() => {
      this.#next = undefined;
      return this.#run(renderNodeRules([...this.#targets.values()].flat()));
    });
    this.#written = this.#next.catch(() => undefined);
    return this.#next;
  }
}
