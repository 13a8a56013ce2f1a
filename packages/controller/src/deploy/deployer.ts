import type { MeshCollections } from '../collections/mesh.ts';
import type { KubeClient } from '../kube/client.ts';
import { createReconciler } from '../kube/reconciler.ts';
import type { Log } from '../log.ts';
import { patchStatus } from '../status/patch.ts';
import type { CompiledWaypoint } from '../translate/waypoint.ts';
import { gatewayStatus } from './gateway-status.ts';
import type { DeploySettings } from './objects.ts';
import { waypointObjects } from './objects.ts';

export interface DeployerOptions {
  readonly client: KubeClient;
  readonly collections: MeshCollections;
  readonly settings: DeploySettings;
  readonly nowMs: () => number;
  readonly log: Log;
}

export interface Deployer {
  close(): Promise<void>;
}

const fieldManager = 'ambit-gateway-deployer';

/** Deploys a proxy for each waypoint Gateway and tells on the Gateway's status what became of it. */
export function startDeployer(options: DeployerOptions): Deployer {
  const { client, collections, settings, log } = options;
  const applied = new Map<string, string>();
  const reconciler = createReconciler({
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
    const objects = waypointObjects(waypoint, settings);
    const fingerprint = JSON.stringify(objects);
    if (applied.get(key) === fingerprint) return;
    for (const { collection, object } of objects) {
      await client.request({
        method: 'PATCH',
        path: `${collection}/${object.metadata.name}`,
        query: new Map([
          ['fieldManager', fieldManager],
          ['force', 'true'],
        ]),
        contentType: 'application/apply-patch+yaml',
        body: object,
      });
    }
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
  for (const [key] of waypoints.entries()) reconciler.enqueue(key);
  return { close: () => reconciler.close() };
}
