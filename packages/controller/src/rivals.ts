import { waypointClass } from '@ambit/api';

import type { Sources } from './collections/sources.ts';
import type { ControlPlaneRecord } from './kube/decode/control-plane.ts';
import type { EndpointSliceRecord } from './kube/decode/endpoint-slice.ts';
import { nameIn } from './kube/decode/fields.ts';
import type { Place } from './kube/watch-plan.ts';
import type { Log } from './log.ts';
import { controllerName } from './status/controller-name.ts';
import { isOlder } from './translate/age.ts';

/** A control plane of some mesh that runs in this cluster, by its Service. */
export interface ControlPlane {
  /** `namespace/name` of the Service. */
  readonly key: string;
  readonly createdAtMs: number;
  readonly mesh: 'Ambit' | 'Istio';
}

export interface Rivals {
  /** Why this controller must not work; undefined when nothing speaks against it. */
  reason(): string | undefined;
  /** What is to be told of meshes that came after this one, which goes on; undefined while there are none. */
  later(): string | undefined;
  /** How many others run. */
  readonly count: number;
  /** Called when one of these is another. */
  onChange(listener: () => void): void;
}

/** Name of our own Service in every installation. */
const ownService = 'ambit-controller';

/** By these labels the Services of control planes are found in every namespace, whatever is in scope. */
export const controlPlaneLabels = `app in (${ownService},istiod)`;

/** Control planes whose endpoints are watched at most, the oldest first: the request names them all. */
const maxPlanes = 50;

/** Pure: where the endpoints of these are watched. */
export function endpointsOfPlanes(planes: Iterable<readonly [string, ControlPlaneRecord]>): Place {
  const oldest = [...planes]
    .flatMap(([, record]) => controlPlaneOf(record) ?? [])
    .sort((one, other) => (isOlder(one, other) ? -1 : 1))
    .slice(0, maxPlanes);
  const names = new Set([ownService, ...oldest.map(({ key }) => nameIn(key))]);
  const labelSelector = `kubernetes.io/service-name in (${[...names].sort().join(',')})`;
  return { key: labelSelector, labelSelector };
}

/** Pure: what control plane a Service is of, by its name and label as the installations have them. */
export function controlPlaneOf({ meta }: ControlPlaneRecord): ControlPlane | undefined {
  const { name, namespace, createdAtMs, labels } = meta;
  const key = `${namespace}/${name}`;
  if (name === ownService) return { key, createdAtMs, mesh: 'Ambit' };
  const isIstiod = name === 'istiod' || name.startsWith('istiod-');
  return isIstiod && labels.get('app') === 'istiod'
    ? { key, createdAtMs, mesh: 'Istio' }
    : undefined;
}

/**
 * Pure: the first of several meshes stays, by the age of its Service, which outlives restarts and upgrades. One that does
 * not run is no rival: what is left of it does nothing.
 */
export function rivalOf(
  own: ControlPlane | undefined,
  running: readonly ControlPlane[],
): ControlPlane | undefined {
  return running.find((one) => own === undefined || isOlder(one, own));
}

/**
 * Two meshes in one cluster would write the same roots into every namespace and deploy the same Gateways: whoever came
 * later writes nothing and is not ready, and says why. Whoever was first goes on, and says so as well: a later mesh of
 * another make does not know that it has to stay away.
 */
export function watchRivals(sources: Sources, rootNamespace: string, log: Log): Rivals {
  const planes = new Map<string, ControlPlane>();
  const ready = new Map<string, string>();
  const ownKey = `${rootNamespace}/${ownService}`;
  let told: string | undefined;
  let toldLater: string | undefined;
  let count = 0;
  const listeners: (() => void)[] = [];
  const others = (): readonly ControlPlane[] => {
    const running = new Set(ready.values());
    return [...planes.values()].filter(({ key }) => key !== ownKey && running.has(key));
  };
  const reason = (): string | undefined => {
    const rival = rivalOf(planes.get(ownKey), others());
    return rival === undefined ? classReason(sources) : describe(rival);
  };
  const later = (): string | undefined => {
    const own = planes.get(ownKey);
    return describeLater(others().filter((one) => own !== undefined && isOlder(own, one)));
  };
  const tell = (): void => {
    const before = { told, toldLater, count };
    [told, toldLater, count] = [reason(), later(), others().length];
    if (told !== before.told) {
      if (told === undefined) log.info({}, 'no other mesh is there any more');
      else log.error({ reason: told }, 'another mesh is there; this one writes nothing');
    }
    if (toldLater !== before.toldLater) {
      if (toldLater === undefined) log.info({}, 'no later mesh is there any more');
      else log.error({}, toldLater);
    }
    const same = before.told === told && before.toldLater === toldLater && before.count === count;
    if (!same) for (const listener of listeners) listener();
  };
  sources.controlPlanes.onChange((key, record) => {
    const plane = record && controlPlaneOf(record);
    if (plane === undefined && !planes.has(key)) return;
    if (plane === undefined) planes.delete(key);
    else planes.set(key, plane);
    tell();
  });
  sources.controlPlaneEndpoints.onChange((key, slice) => {
    const service = slice && readyService(slice);
    if (service === undefined && !ready.has(key)) return;
    if (service === undefined) ready.delete(key);
    else ready.set(key, service);
    tell();
  });
  sources.gatewayClasses.onChange((key) => {
    if (key === waypointClass) tell();
  });
  return {
    reason,
    later,
    get count() {
      return count;
    },
    onChange: (listener) => {
      listeners.push(listener);
    },
  };
}

/** The Service of a slice that may be a control plane's, when one of its endpoints is ready. */
function readyService({ service, meta, endpoints }: EndpointSliceRecord): string | undefined {
  if (service !== ownService && !service.startsWith('istiod')) return undefined;
  return endpoints.some((one) => one.ready) ? `${meta.namespace}/${service}` : undefined;
}

function classReason({ gatewayClasses }: Sources): string | undefined {
  const spec = gatewayClasses.get(waypointClass)?.spec;
  if (spec === undefined || !spec.ok) return undefined;
  const named = spec.value.controllerName;
  if (named === undefined || named === controllerName) return undefined;
  return (
    `GatewayClass ${waypointClass} names the controller ${named}, not ${controllerName}; ` +
    'uninstall that mesh, or delete the class where it is only left over'
  );
}

function describe({ mesh, key }: ControlPlane): string {
  return (
    `${mesh} already runs in this cluster (Service ${key}); both would write ConfigMap istio-ca-root-cert ` +
    `and deploy the Gateways of class ${waypointClass}, so uninstall one of the two`
  );
}

function describeLater(planes: readonly ControlPlane[]): string | undefined {
  if (planes.length === 0) return undefined;
  const names = planes.map(({ mesh, key }) => `${mesh} (Service ${key})`).sort();
  const were = names.length === 1 ? 'was' : 'were';
  return (
    `${names.join(' and ')} ${were} installed after this mesh, which goes on: both write ConfigMap istio-ca-root-cert ` +
    `and redirect pods, so uninstall one of the two`
  );
}
