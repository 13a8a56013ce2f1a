import { messageOf } from '@ambit/core';

import type { ReadableCollection } from '../collections/collection.ts';
import type { MeshCollections } from '../collections/mesh.ts';
import type { KubeClient } from '../kube/client.ts';
import type { Gate } from '../kube/reconciler.ts';
import { createReconciler } from '../kube/reconciler.ts';
import type { Log } from '../log.ts';
import { patchStatus } from '../status/patch.ts';
import { objectKey } from '../kube/decode/fields.ts';
import type { ParametersRecord } from '../kube/decode/parameters.ts';
import { kubeStatus } from '../kube/error.ts';
import type { CompiledWaypoint } from '../translate/waypoint.ts';
import { parametersField } from '../translate/waypoint.ts';
import type { Customized } from './customize.ts';
import { customized } from './customize.ts';
import { gatewayStatus } from './gateway-status.ts';
import { applyFenced } from './apply.ts';
import type { Deployed, DeploySettings } from './objects.ts';
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
      const made = madeOf(waypoint, settings, collections.sources.parameters);
      // Its parameters are being read, and their arrival brings us back.
      if (made === undefined) return;
      const why = made.ok ? await deployed(key, waypoint, made.objects) : made.problems;
      await tell(key, withProblems(waypoint, why));
    },
    onError: (key, error) => {
      log.warn(
        { err: error, object: `Gateway ${key}` },
        'waypoint not deployed; it is tried again',
      );
    },
  });
  /** What the API server has against it, which can only be the parameters. */
  const deployed = async (
    key: string,
    { problems, parameters }: CompiledWaypoint,
    objects: readonly Deployed[],
  ): Promise<readonly string[]> => {
    if (problems.length > 0) return [];
    try {
      await deploy(key, objects);
      return [];
    } catch (error) {
      const status = kubeStatus(error);
      if (parameters === undefined || (status !== 400 && status !== 422)) throw error;
      return [`ConfigMap ${parameters}: ${messageOf(error)}`];
    }
  };
  const deploy = async (key: string, objects: readonly Deployed[]): Promise<void> => {
    const token = options.token();
    if (token === undefined) return;
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
  collections.sources.parameters.onChange((name) => {
    for (const [key, { parameters }] of waypoints.entries())
      if (parameters === name) reconciler.enqueue(key);
  });
  const all = (): void => {
    for (const [key] of waypoints.entries()) reconciler.enqueue(key);
  };
  // A new term marks everything as its own, so that nothing of an earlier one can be written after it.
  gate.onOpen(all);
  all();
  return { close: () => reconciler.close() };
}

function withProblems(waypoint: CompiledWaypoint, why: readonly string[]): CompiledWaypoint {
  if (why.length === 0) return waypoint;
  const object = `Gateway ${objectKey(waypoint.meta)}`;
  const more = why.map((message) => ({ object, field: parametersField, message }));
  return { ...waypoint, problems: [...waypoint.problems, ...more] };
}

function madeOf(
  waypoint: CompiledWaypoint,
  settings: DeploySettings,
  known: ReadableCollection<ParametersRecord>,
): Customized | undefined {
  const objects = waypointObjects(waypoint, settings);
  if (waypoint.parameters === undefined) return { ok: true, objects };
  const parameters = known.get(waypoint.parameters);
  return parameters && customized(objects, waypoint.parameters, parameters);
}
