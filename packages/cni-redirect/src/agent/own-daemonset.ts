import { leavingAnnotation } from '@ambit/api';
import type { Logger } from '@ambit/core';
import type { KubeConfig, V1DaemonSet } from '@kubernetes/client-node';
import { AppsV1Api } from '@kubernetes/client-node';
import { follow } from './kube/follow.ts';

/** What is to become of the agents of a DaemonSet. */
export type Fate = 'stays' | 'leaving';

/**
 * Tells an uninstall from everything else that ends an agent. That the mesh is to leave its nodes is written on the DaemonSet
 * itself: the next one knows nothing of it. An agent that is only replaced, or whose DaemonSet somebody deletes, leaves
 * everything in place: pods stay captured, and new ones wait for the next agent. Asked of the API server at the end, it could
 * no longer be known, since an uninstall takes the agent's permissions too; so the DaemonSet is watched all along.
 */
export interface OwnDaemonSet {
  /** Undefined until the API server has told. */
  readonly fate: Fate | undefined;
  /** Resolves at its first word. */
  readonly known: Promise<void>;
  /** Tells the fate that is known, and every word after it. */
  onFate(told: (fate: Fate) => void): void;
  close(): void;
}

export interface OwnDaemonSetOptions {
  readonly config: KubeConfig;
  readonly namespace: string;
  readonly name: string;
  readonly logger: Logger;
}

export function followOwnDaemonSet(options: OwnDaemonSetOptions): OwnDaemonSet {
  const { config, namespace, name, logger } = options;
  const apps = config.makeApiClient(AppsV1Api);
  const fieldSelector = `metadata.name=${name}`;
  let fate: Fate | undefined;
  let told: (fate: Fate) => void = () => undefined;
  const see = (set: V1DaemonSet | undefined): void => {
    // Of one that is gone the last word holds.
    fate = set === undefined ? (fate ?? 'stays') : fateOf(set);
    told(fate);
  };
  const follower = follow<V1DaemonSet>({
    config,
    path: `/apis/apps/v1/namespaces/${namespace}/daemonsets`,
    query: { fieldSelector },
    list: () => apps.listNamespacedDaemonSet({ namespace, fieldSelector }),
    onList: ([set]) => see(set),
    onChange: see,
    onDelete: see,
    logger,
  });
  return {
    get fate() {
      return fate;
    },
    known: follower.synced,
    onFate(tell) {
      told = tell;
      if (fate !== undefined) tell(fate);
    },
    close: () => follower.close(),
  };
}

export interface FateOf {
  readonly metadata?: {
    readonly annotations?: Readonly<Record<string, string>>;
    readonly deletionTimestamp?: Date;
  };
}

export function fateOf(set: FateOf): Fate {
  return set.metadata?.annotations?.[leavingAnnotation] === 'true' ? 'leaving' : 'stays';
}
