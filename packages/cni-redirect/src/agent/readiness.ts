import type { Metrics } from '@ambit/core';

/** Whether the node is ready for new pods of the mesh. */
export interface Readiness {
  /** What is missing; undefined once nothing is. */
  missing(): string | undefined;
  /** From now on these tell. */
  of(parts: ReadinessOf): void;
}

export interface ReadinessOf {
  readonly ztunnel: { readonly connected: boolean };
  readonly installation: { readonly missing: string | undefined };
  readonly pods: { unsettled(): string[] };
}

const maxNames = 5;

/**
 * Ready when ztunnel is connected, the runtime calls the plugin, and, once in the life of an agent, every pod that is to
 * be in the mesh was seen to be in it or closed: pods must not come back from a restart of the node outside the mesh.
 */
export function createReadiness(): Readiness {
  let settled = false;
  let parts: ReadinessOf | undefined;
  return {
    of: (all) => void (parts = all),
    missing() {
      if (parts === undefined)
        return 'the API server has not told the pods of this node yet; the log says why';
      const { ztunnel, installation, pods } = parts;
      if (!ztunnel.connected) return 'no ztunnel is connected on this node';
      if (installation.missing !== undefined) return installation.missing;
      if (settled) return undefined;
      const unsettled = pods.unsettled();
      settled = unsettled.length === 0;
      if (settled) return undefined;
      const more = unsettled.length > maxNames ? ` and ${unsettled.length - maxNames} more` : '';
      return `the capture of ${unsettled.slice(0, maxNames).join(', ')}${more} is not verified yet; the log says why`;
    },
  };
}

/** Figures of the node: pods in the mesh, pods that are to be, and whether it is ready for more; taken when it is called. */
export function countPods(
  metrics: Metrics,
  pods: { counts(): { readonly captured: number; readonly waiting: number } },
  readiness: Readiness,
): () => void {
  const count = metrics.gauge(
    'ambit_cni_pods',
    'Pods of this node that are captured, and that are to be and are not yet.',
    ['state'],
  );
  const ready = metrics.gauge('ambit_cni_ready', '1 while the node is ready for new pods.', []);
  return () => {
    const { captured, waiting } = pods.counts();
    count.set({ state: 'captured' }, captured);
    count.set({ state: 'waiting' }, waiting);
    ready.set(readiness.missing() === undefined ? 1 : 0);
  };
}
