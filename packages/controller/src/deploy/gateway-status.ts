import { isDeepStrictEqual } from 'node:util';

import { field, list, objectKey, text } from '../kube/decode/fields.ts';
import { hasCondition } from '../status/bound.ts';
import type { Wanted } from '../status/conditions.ts';
import { setConditions } from '../status/conditions.ts';
import type { CompiledWaypoint } from '../translate/waypoint.ts';
import { parametersField } from '../translate/waypoint.ts';

const group = 'gateway.networking.k8s.io';
/** Of routes that may name the Gateway; those of connections name Services. */
const supportedKinds = ['HTTPRoute', 'GRPCRoute'].map((kind) => ({
  group,
  kind,
}));

/** What else there is to be said. */
export interface Circumstances {
  /** How many routes name the Gateway, by the name of the listener. */
  readonly attachedRoutes?: ReadonlyMap<string, number> | undefined;
  /** Why what is to be deployed is refused again and again. */
  readonly refusal?: string | undefined;
  /** Why what bears the waypoint's name is not believed to be it. */
  readonly obstacle?: string | undefined;
}

/** The status of a waypoint's Gateway; undefined when that is what stands there. */
export function gatewayStatus(
  waypoint: CompiledWaypoint,
  ready: boolean,
  nowMs: number,
  { attachedRoutes, refusal, obstacle }: Circumstances = {},
): Readonly<Record<string, unknown>> | undefined {
  const { status, meta } = waypoint;
  const accepted = waypoint.problems.length === 0;
  const wanted = gatewayConditions(waypoint, ready, obstacle);
  const [, hostname = ''] = waypoint.gateway.service.split('/');
  const made = {
    conditions: kept(
      status,
      [...wanted, ...refusalCondition(status, refusal)],
      meta.generation,
      nowMs,
    ),
    addresses: accepted ? [{ type: 'Hostname', value: hostname }] : [],
    listeners: waypoint.listeners.map((name) => {
      const before = list(field(status, 'listeners')).find(
        (one) => text(field(one, 'name')) === name,
      );
      return {
        name,
        // Those that name the services that a waypoint serves are not attached to the waypoint.
        attachedRoutes: attachedRoutes?.get(name) ?? 0,
        supportedKinds,
        conditions: kept(before, listenerConditions(wanted), meta.generation, nowMs),
      };
    }),
  };
  const stands = ['conditions', 'addresses', 'listeners'].every((name) =>
    isDeepStrictEqual(field(status, name), made[name as keyof typeof made]),
  );
  return stands ? undefined : made;
}

function kept(
  status: unknown,
  wanted: readonly Wanted[],
  generation: number,
  nowMs: number,
): readonly unknown[] {
  return setConditions(status, wanted, generation, nowMs) ?? list(field(status, 'conditions'));
}

const refusedType = 'ambit.dev/WriteRefused';

/** True says that there is something amiss; what was never said is not said to be well. */
function refusalCondition(status: unknown, refusal: string | undefined): readonly Wanted[] {
  if (refusal !== undefined) {
    const message = `not deployed as it is written here, and tried again: ${refusal}`;
    return [{ type: refusedType, status: 'True', reason: 'WriteRefused', message }];
  }
  if (!hasCondition(status, refusedType)) return [];
  const message = 'everything is written';
  return [{ type: refusedType, status: 'False', reason: 'Written', message }];
}

function listenerConditions(ofGateway: readonly Wanted[]): readonly Wanted[] {
  return [
    ...ofGateway,
    {
      type: 'Conflicted',
      status: 'False',
      reason: 'NoConflicts',
      message: 'it has its port to itself',
    },
    {
      type: 'ResolvedRefs',
      status: 'True',
      reason: 'ResolvedRefs',
      message: 'it refers to nothing else',
    },
  ];
}

/** Pure: what is to be said of a waypoint. */
function gatewayConditions(
  { problems, meta }: CompiledWaypoint,
  ready: boolean,
  obstacle = 'no proxy is ready',
): readonly Wanted[] {
  const why = problems.map(({ field: path, message }) => `${path}: ${message}`).join('; ');
  const accepted = problems.length === 0;
  const isOfParameters = problems.every((one) => one.field === parametersField);
  const reason = isOfParameters ? 'InvalidParameters' : 'Invalid';
  return [
    accepted
      ? {
          type: 'Accepted',
          status: 'True',
          reason: 'Accepted',
          message: `waypoint ${objectKey(meta)} is deployed`,
        }
      : { type: 'Accepted', status: 'False', reason, message: why },
    ready
      ? { type: 'Programmed', status: 'True', reason: 'Programmed', message: 'a proxy is ready' }
      : {
          type: 'Programmed',
          status: 'False',
          reason: accepted ? 'Pending' : 'Invalid',
          message: accepted ? `${obstacle}; the traffic of what is bound to it is refused` : why,
        },
  ];
}
