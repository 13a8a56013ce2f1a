import type { Logger } from '@ambit/core';
import type { KubeConfig, V1DaemonSet } from '@kubernetes/client-node';
import { AppsV1Api } from '@kubernetes/client-node';
import { follow } from './kube/follow.ts';

/**
 * Tells an uninstall from a restart. An agent that is only replaced leaves everything in place: new pods wait for the
 * next one. Asked of the API server at the end, it could no longer be known, since an uninstall takes the agent's
 * permissions too; so the DaemonSet is watched all along.
 */
export interface OwnDaemonSet {
  readonly deleted: boolean;
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
  let deleted = false;
  const follower = follow<V1DaemonSet>({
    config,
    path: `/apis/apps/v1/namespaces/${namespace}/daemonsets`,
    query: { fieldSelector },
    list: () => apps.listNamespacedDaemonSet({ namespace, fieldSelector }),
    onList: (sets) => (deleted = !sets.some((set) => !isGoing(set))),
    onChange: (set) => (deleted = isGoing(set)),
    onDelete: () => (deleted = true),
    logger,
  });
  return {
    get deleted() {
      return deleted;
    },
    close: () => follower.close(),
  };
}

function isGoing({ metadata }: V1DaemonSet): boolean {
  return metadata?.deletionTimestamp !== undefined;
}
