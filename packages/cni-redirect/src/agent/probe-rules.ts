import type { ProbeTarget } from '../rules/node.ts';
import { renderNodeRules } from '../rules/node.ts';
import { runOnNode } from '../rules/run.ts';
import type { PodFacts } from './enrol.ts';

/** The node's own rules: which ports of which captured pods the kubelet probes. Written one after the other. */
export class ProbeRules {
  readonly #targets = new Map<string, readonly ProbeTarget[]>();
  #written = Promise.resolve();

  set({ uid, addresses, probePorts }: PodFacts): Promise<void> {
    this.#targets.set(
      uid,
      addresses.flatMap((ip) => probePorts.map((port) => ({ ip, port }))),
    );
    return this.#write();
  }

  delete(uid: string): Promise<void> {
    this.#targets.delete(uid);
    return this.#write();
  }

  #write(): Promise<void> {
    const targets = [...this.#targets.values()].flat();
    const write = this.#written.then(() => runOnNode(renderNodeRules(targets)));
    this.#written = write.catch(() => undefined);
    return write;
  }
}
