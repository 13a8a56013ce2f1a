import { leavingAnnotation } from '@ambit/api';
import type { Logger } from '@ambit/core';
import type { KubeConfig, V1DaemonSet } from '@kubernetes/client-node';
import { AppsV1Api } from '@kubernetes/client-node';
import { follow } from './kube/follow.ts';

/** What is to become of the agents of a DaemonSet. */
export type Fate = 'stays' | 'leaving' | 'deleted';

/**
 * Tells an uninstall from a restart. An agent that is only replaced leaves everything in place: new pods wait for the
 * next one. Asked of the API server at the end, it could no longer be known, since an uninstall takes the agent's
 * permissions too; so the DaemonSet is watched all along. That the mesh is to leave its nodes is written on the
 * DaemonSet itself: the next one knows nothing of it.
 */
export interface OwnDaemonSet {
  /** Undefined until the API server has told. */
  readonly fate: Fate | undefined;
  close(): void;
}

export interface OwnDaemonSetOptions {
  readonly config: KubeConfig;
  readonly namespace: string;
  readonly name: string;
  readonly onFate: (fate: Fate) => void;
  readonly logger: Logger;
}

export function followOwnDaemonSet(options: OwnDaemonSetOptions): OwnDaemonSet {
  const { config, namespace, name, onFate, logger } = options;
  const apps = config.makeApiClient(AppsV1Api);
  const fieldSelector = `metadata.name=${name}`;
  let fate: Fate | undefined;
  const see = (set: V1DaemonSet | undefined): void => {
    fate = fateOf(set);
    onFate(fate);
  };
  const follower = follow<V1DaemonSet>({
    config,
    path: `/apis/apps/v1/namespaces/${namespace}/daemonsets`,
    query: { fieldSelector },
    list: () => apps.listNamespacedDaemonSet({ namespace, fieldSelector }),
    onList: ([set]) => see(set),
    onChange: see,
    onDelete: () => see(undefined),
    logger,
  });
  return {
    get fate() {
      return fate;
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

export function fateOf(set: FateOf | undefined): Fate {
  if (set === undefined || set.metadata?.deletionTimestamp !== undefined) return 'deleted';
  return set.metadata?.annotations?.[leavingAnnotation] === 'true' ? 'leaving' : 'stays';
}
