import type { Metrics } from '@ambit/core';

/** Whether the node is ready for new pods of the mesh. */
export interface Readiness {
  /** What is missing; undefined once nothing is. */
  missing(): string | undefined;
  /** From now on these tell. */
  of(parts: ReadinessOf): void;
  /** Never again: the node is given to another agent. */
  handsOver(): void;
}

export interface ReadinessOf {
  readonly ztunnel: { readonly connected: boolean };
  readonly installation: { readonly missing: string | undefined };
  readonly access: { missing(): string | undefined };
  readonly firstLook: { missing(): string | undefined };
}

/**
 * Ready when ztunnel is connected, the runtime calls the plugin, pods can be marked, and those that were there were looked at.
 */
export function createReadiness(): Readiness {
  let parts: ReadinessOf | undefined;
  let over = false;
  return {
    handsOver: () => void (over = true),
    of: (all) => void (parts = all),
    missing() {
      if (over) return 'another agent takes this node over';
      if (parts === undefined)
        return 'the API server has not told the pods of this node yet; the log says why';
      const { ztunnel, installation, access, firstLook } = parts;
      if (!ztunnel.connected) return 'no ztunnel is connected on this node';
      return installation.missing ?? access.missing() ?? firstLook.missing();
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
