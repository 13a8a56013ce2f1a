import type { MeshCollections } from '../collections/mesh.ts';
import type { KubeClient } from '../kube/client.ts';
import type { Gate } from '../kube/reconciler.ts';
import { createReconciler } from '../kube/reconciler.ts';
import type { Log } from '../log.ts';
import { patchStatus } from '../status/patch.ts';
import type { CompiledWaypoint } from '../translate/waypoint.ts';
import { gatewayStatus } from './gateway-status.ts';
import type { DeploySettings } from './objects.ts';
import { applyFenced } from './apply.ts';
import { waypointObjects } from './objects.ts';

export interface DeployerOptions {
  readonly client: KubeClient;
  /** Open while this controller is the one that writes. */
  readonly gate: Gate;
  readonly collections: MeshCollections;
  readonly settings: DeploySettings;
  /** Fencing token of the term in which this controller writes; undefined outside of one. */
  readonly token: () => number | undefined;
  readonly nowMs: () => number;
  readonly log: Log;
}

export interface Deployer {
  close(): Promise<void>;
}

/** Deploys a proxy for each waypoint Gateway and tells on the Gateway's status what became of it. */
export function startDeployer(options: DeployerOptions): Deployer {
  const { client, gate, collections, settings, log } = options;
  const applied = new Map<string, string>();
  const reconciler = createReconciler({
    gate,
    run: async (key) => {
      collections.flush();
      const waypoint = collections.l7.waypoints.get(key);
      if (waypoint === undefined || waypoint.meta.deleting) {
        applied.delete(key);
        return;
      }
      if (waypoint.problems.length === 0) await deploy(key, waypoint);
      await tell(key, waypoint);
    },
    onError: (key, error) => {
      log.warn(
        { err: error, object: `Gateway ${key}` },
        'waypoint not deployed; it is tried again',
      );
    },
  });
  const deploy = async (key: string, waypoint: CompiledWaypoint): Promise<void> => {
    const token = options.token();
    if (token === undefined) return;
    const objects = waypointObjects(waypoint, settings);
    const fingerprint = `${token} ${JSON.stringify(objects)}`;
    if (applied.get(key) === fingerprint) return;
    for (const one of objects) await applyFenced(client, one, token);
    applied.set(key, fingerprint);
    log.info({ object: `Gateway ${key}` }, 'waypoint deployed');
  };
  const tell = async (key: string, waypoint: CompiledWaypoint): Promise<void> => {
    const ready = collections.programmed.get(key) === true;
    const status = gatewayStatus(waypoint, ready, options.nowMs());
    if (status === undefined) return;
    await patchStatus(client, {
      path: `/apis/gateway.networking.k8s.io/v1/namespaces/${waypoint.meta.namespace}/gateways/${waypoint.meta.name}`,
      meta: waypoint.meta,
      status,
    });
  };
  const { waypoints } = collections.l7;
  waypoints.onChange((key) => reconciler.enqueue(key));
  collections.programmed.onChange((key) => reconciler.enqueue(key));
  const all = (): void => {
    for (const [key] of waypoints.entries()) reconciler.enqueue(key);
  };
  // A new term marks everything as its own, so that nothing of an earlier one can be written after it.
  gate.onOpen(all);
  all();
  return { close: () => reconciler.close() };
}
