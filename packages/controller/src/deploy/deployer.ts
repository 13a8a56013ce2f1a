import { messageOf } from '@ambit/core';

import type { ReadableCollection } from '../collections/collection.ts';
import type { MeshCollections } from '../collections/mesh.ts';
import type { Sources } from '../collections/sources.ts';
import type { KubeClient } from '../kube/client.ts';
import type { Gate } from '../kube/reconciler.ts';
import { createReconciler } from '../kube/reconciler.ts';
import type { Log } from '../log.ts';
import type { Ownership } from '../ownership.ts';
import { patchStatus } from '../status/patch.ts';
import { persistentFailures } from '../status/refused.ts';
import type { Metadata, Problem } from '../kube/decode/fields.ts';
import { decodeMetadata, field, objectKey, text } from '../kube/decode/fields.ts';
import type { ParametersRecord } from '../kube/decode/parameters.ts';
import { gatewayUidOf } from '../kube/decode/owner.ts';
import { KubeError, kubeStatus } from '../kube/error.ts';
import type { RevisionFacts } from '../translate/revision.ts';
import { isOurs, revisionLabel } from '../translate/revision.ts';
import type { CompiledWaypoint } from '../translate/waypoint.ts';
import { parametersField } from '../translate/waypoint.ts';
import type { Customized } from './customize.ts';
import { customized } from './customize.ts';
import { gatewayStatus } from './gateway-status.ts';
import type { Standing } from './apply.ts';
import { underAccount } from './account.ts';
import { applyFenced, changesHands, inTheWay, standingOf } from './apply.ts';
import type { Deployed, DeploySettings } from './objects.ts';
import { waypointObjects } from './objects.ts';

export interface DeployerOptions {
  readonly client: KubeClient;
  /** Open while this controller is the one that writes. */
  readonly gate: Gate;
  readonly ownership: Ownership;
  readonly collections: MeshCollections;
  readonly settings: DeploySettings;
  /** Fencing token of the term in which this controller writes; undefined outside of one. */
  readonly token: () => number | undefined;
  /** Name of the Lease of which that is a term. */
  readonly lease: string;
  readonly revision: RevisionFacts;
  readonly nowMs: () => number;
  readonly log: Log;
}

export interface Deployer {
  close(): Promise<void>;
}

/** Deploys a proxy for each waypoint Gateway and tells on the Gateway's status what became of it. */
export function startDeployer(options: DeployerOptions): Deployer {
  const { client, gate, ownership, collections, settings, log } = options;
  const applied = new Map<string, string>();
  // Why a write is refused again and again.
  const refused = new Map<string, string>();
  const deployed = deployment(options, applied);
  const reconciler = createReconciler({
    gate,
    run: async (key) => {
      collections.flush();
      const waypoint = collections.l7.waypoints.get(key);
      const isOwn = waypoint !== undefined && ownership.owns(waypoint.meta);
      if (!isOwn || waypoint.meta.deleting) {
        applied.delete(key);
        refused.delete(key);
        return;
      }
      const made = madeOf(waypoint, settings, collections.sources.parameters);
      // Its parameters are being read, and their arrival brings us back.
      if (made === undefined) return;
      const why = made.ok
        ? await deployedOrTold(key, waypoint, made.objects)
        : ofParameters(made.problems);
      await tell(key, withProblems(waypoint, why));
      // Not everything that may be in the way is watched.
      const obstacle = why.find((one) => one.field === nameField);
      if (obstacle !== undefined) throw new Error(obstacle.message);
    },
    onError: (key, error, failures) => {
      if (failures + 1 >= persistentFailures) refused.set(key, messageOf(error));
      log.warn(
        { err: error, object: `Gateway ${key}`, failures },
        'waypoint not deployed; it is tried again',
      );
    },
  });
  const deployedOrTold: Deployment = async (key, waypoint, objects) => {
    try {
      const why = await deployed(key, waypoint, objects);
      refused.delete(key);
      return why;
    } catch (error) {
      if (refused.has(key)) {
        refused.set(key, messageOf(error));
        await tell(key, waypoint);
      }
      throw error;
    }
  };
  const tell = async (key: string, waypoint: CompiledWaypoint): Promise<void> => {
    const ready = collections.programmed.get(key) === true;
    const status = gatewayStatus(waypoint, ready, options.nowMs(), {
      attachedRoutes: collections.l7.attachedRoutes.get(key),
      refusal: refused.get(key),
      obstacle: collections.l7.obstacles.get(key),
    });
    if (status === undefined) return;
    await patchStatus(client, {
      path: gatewayPath(waypoint.meta),
      meta: waypoint.meta,
      status,
    });
  };
  follow(options, (key) => reconciler.enqueue(key));
  return { close: () => reconciler.close() };
}

type Deployment = (
  key: string,
  waypoint: CompiledWaypoint,
  objects: readonly Deployed[],
) => Promise<readonly Fault[]>;

/** Applies what is not applied yet; answers why it cannot be. `applied` is what was, by Gateway. */
function deployment(options: DeployerOptions, applied: Map<string, string>): Deployment {
  const { client, collections, log } = options;
  /** What is in the way, or what the API server has against it, which can only be the parameters. */
  const deployed: Deployment = async (key, waypoint, objects) => {
    const { problems, parameters } = waypoint;
    if (problems.length > 0) return [];
    try {
      return await deploy(key, waypoint, objects);
    } catch (error) {
      const status = kubeStatus(error);
      if (parameters === undefined || (status !== 400 && status !== 422)) throw error;
      return ofParameters([`ConfigMap ${parameters}: ${messageOf(error)}`]);
    }
  };
  const deploy = async (
    key: string,
    { meta }: CompiledWaypoint,
    objects: readonly Deployed[],
  ): Promise<readonly Fault[]> => {
    const token = options.token();
    if (token === undefined) return [];
    const fingerprint = `${token} ${meta.uid} ${JSON.stringify(objects)}`;
    const isClear = collections.l7.obstacles.get(key) === undefined;
    const isApplied = isClear && applied.get(key) === fingerprint;
    if (isApplied && isThere(key, meta.uid, collections.sources)) return [];
    const standing: readonly Standing[] = await standingOf(client, objects);
    // What was just applied may not have been seen to come.
    if (isApplied && standing.every(({ found }) => gatewayUidOf(found) === meta.uid)) return [];
    applied.delete(key);
    const others = inTheWay(standing, meta.uid);
    if (others.length > 0) return [blocked(others)];
    const { lease, revision } = options;
    if (changesHands(standing, lease)) await stillOurs(client, meta, revision);
    let account = { uid: '', isNew: false };
    for (const one of standing) {
      const stands = await applyFenced(client, underAccount(one, account), { lease, token });
      if (one.wanted.object.kind === 'ServiceAccount')
        account = { uid: text(field(stands, 'metadata', 'uid')), isNew: one.found === undefined };
    }
    applied.set(key, fingerprint);
    log.info({ object: `Gateway ${key}` }, 'waypoint deployed');
    return [];
  };
  return deployed;
}

/** Whether what somebody may have deleted is still seen; of a missing ServiceAccount the obstacles tell. */
function isThere(
  key: string,
  uid: string,
  { gatewayDeployments, services }: Pick<Sources, 'gatewayDeployments' | 'services'>,
): boolean {
  return [gatewayDeployments, services].every((one) => one.get(key)?.gatewayUid === uid);
}

/** Everything by which what is deployed may have to change. */
function follow(
  { collections, gate, ownership }: DeployerOptions,
  enqueue: (key: string) => void,
): void {
  const { waypoints } = collections.l7;
  waypoints.onChange((key) => enqueue(key));
  ownership.follow(waypoints, enqueue);
  collections.l7.obstacles.onChange((key) => enqueue(key));
  const { services, gatewayDeployments } = collections.sources;
  for (const one of [services, gatewayDeployments]) {
    one.onChange((key, record) => {
      if (record === undefined && waypoints.get(key) !== undefined) enqueue(key);
    });
  }
  collections.l7.attachedRoutes.onChange((key) => enqueue(key));
  collections.programmed.onChange((key) => enqueue(key));
  collections.sources.parameters.onChange((name) => {
    for (const [key, { parameters }] of waypoints.entries()) if (parameters === name) enqueue(key);
  });
  const all = (): void => {
    for (const [key] of waypoints.entries()) enqueue(key);
  };
  // A new term marks everything as its own, so that nothing of an earlier one can be written after it.
  gate.onOpen(all);
  all();
}

function gatewayPath({ namespace, name }: Metadata): string {
  return `/apis/gateway.networking.k8s.io/v1/namespaces/${namespace}/gateways/${name}`;
}

/**
 * Terms of two revisions' Leases say nothing of each other: whoever takes over what another revision has written asks the
 * API first whether it is meant, lest it undo that by what it saw before it was stopped for a while.
 */
async function stillOurs(
  client: KubeClient,
  meta: Metadata,
  revision: RevisionFacts,
): Promise<void> {
  const gateway = decodeMetadata(await client.request({ path: gatewayPath(meta) }));
  const ofNamespace = await client.request({ path: `/api/v1/namespaces/${meta.namespace}` });
  const label =
    gateway?.labels.get(revisionLabel) ??
    decodeMetadata(ofNamespace)?.labels.get(revisionLabel) ??
    '';
  if (gateway?.uid === meta.uid && isOurs(label, revision)) return;
  throw new KubeError(`Gateway ${objectKey(meta)}: is another revision's by now`, {
    status: 409,
    reason: 'Fenced',
  });
}

/** Why a Gateway that is in order is not deployed. */
type Fault = Pick<Problem, 'field' | 'message'>;

const nameField = 'metadata.name';

function ofParameters(messages: readonly string[]): readonly Fault[] {
  return messages.map((message) => ({ field: parametersField, message }));
}

function blocked(others: readonly string[]): Fault {
  const what = others.join(' and ');
  const is = others.length === 1 ? 'is' : 'are';
  return {
    field: nameField,
    message: `${what} ${is} there and not of this Gateway, and ${is} left alone: give the Gateway another name, or remove ${what}; until then the traffic of what is bound to it is refused`,
  };
}

function withProblems(waypoint: CompiledWaypoint, why: readonly Fault[]): CompiledWaypoint {
  if (why.length === 0) return waypoint;
  const object = `Gateway ${objectKey(waypoint.meta)}`;
  return {
    ...waypoint,
    problems: [...waypoint.problems, ...why.map((one) => ({ object, ...one }))],
  };
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
