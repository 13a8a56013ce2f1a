import { bypassWaypointAnnotation, useWaypointLabel, useWaypointNamespaceLabel } from '@ambit/api';
import type { Kube, KubeObject } from '../kube.ts';
import { classLabelsOf, conditionOf, keyOf, purposeOf } from './objects.ts';

/** One line of what is bound to a waypoint. */
export interface BoundRow {
  readonly kind: string;
  readonly name: string;
  readonly bound: string;
  /** Whether a policy makes its workloads refuse what did not come through the waypoint. */
  readonly required: string;
  readonly message: string;
}

/** What policies can hold for, and what the controller says of it. */
export interface Held {
  readonly kind: string;
  /** `namespace/name`. */
  readonly key: string;
  /** `namespace/name` of the waypoint that its labels, or else its namespace's, name. */
  readonly waypoint: string | undefined;
  /** The message of `ambit.dev/WaypointRequired` where that is True: it names one of the policies. */
  readonly requiredBy: string | undefined;
  /** The same where its workloads take everything nevertheless. */
  readonly bypassed?: string | undefined;
  /** Of a Service. */
  readonly selector?: Readonly<Record<string, unknown>> | undefined;
}

export interface Bindings {
  /** Everything in the cluster that is bound to the waypoint, or would be if that were allowed. */
  readonly rows: readonly BoundRow[];
  /** Whatever is bound to a waypoint or closed without one, of the whole cluster. */
  readonly held: readonly Held[];
  /** By `namespace/name`: pods that are bound by their own address and take nothing from elsewhere if a policy says so. */
  readonly pods: readonly string[];
}

const networking = '/apis/networking.istio.io/v1';
const listed: readonly (readonly [kind: string, path: string])[] = [
  ['Service', '/api/v1/services'],
  ['ServiceEntry', `${networking}/serviceentries`],
  ['WorkloadEntry', `${networking}/workloadentries`],
];

type Namespaces = ReadonlyMap<string, KubeObject>;

/** @param ofGateway - the policy that holds for whatever is bound to the Gateway, if there is one */
export async function readBindings(
  kube: Kube,
  gateway: KubeObject,
  ofGateway: string | undefined,
): Promise<Bindings> {
  const namespaces = new Map(
    (await kube.list('/api/v1/namespaces')).map((one) => [one.metadata.name, one]),
  );
  const rows: BoundRow[] = [];
  const held: Held[] = [];
  for (const [kind, path] of listed) {
    for (const one of await kube.listIfKnown(path)) {
      const what = heldOf(kind, one, namespaces);
      if ([what.waypoint, what.requiredBy, what.bypassed].some((it) => it !== undefined))
        held.push(what);
      const { status, message } = conditionOf(one, 'istio.io/WaypointBound');
      // What the controller has said holds; before it has, a label alone binds nothing.
      if (what.waypoint !== keyOf(gateway) || status === 'Unknown') continue;
      const required = what.requiredBy ?? what.bypassed;
      rows.push({
        kind,
        name: what.key,
        bound: status,
        required: what.requiredBy === undefined ? 'False' : 'True',
        message: required === undefined ? message : `${message}; ${required}`,
      });
    }
  }
  const pods = await boundPods(kube, gateway, namespaces);
  const message = 'reached by its address through the waypoint';
  for (const one of pods) {
    const by = bypasses(one, namespaces) ? undefined : requiredOf(one, held, ofGateway);
    rows.push({
      kind: 'Pod',
      name: keyOf(one),
      bound: 'True',
      required: by === undefined ? 'False' : 'True',
      message: by === undefined ? message : `${message}; because of ${by} it refuses all else`,
    });
  }
  return { rows, held, pods: pods.filter((one) => !bypasses(one, namespaces)).map(keyOf) };
}

function heldOf(kind: string, one: KubeObject, namespaces: Namespaces): Held {
  const required = conditionOf(one, 'ambit.dev/WaypointRequired');
  return {
    kind,
    key: keyOf(one),
    waypoint: targetOf(one, namespaces),
    requiredBy: required.status === 'True' ? required.message : undefined,
    bypassed: required.reason === 'Bypassed' ? required.message : undefined,
    selector: kind === 'Service' ? selectorOf(one) : undefined,
  };
}

function selectorOf({ spec }: KubeObject): Held['selector'] {
  const selector = spec?.['selector'];
  return typeof selector === 'object' && selector !== null
    ? (selector as Readonly<Record<string, unknown>>)
    : undefined;
}

/** The policy for which a pod refuses what did not come through its waypoint: the Gateway's, or of a Service before it. */
function requiredOf(
  { metadata }: KubeObject,
  held: readonly Held[],
  ofGateway: string | undefined,
): string | undefined {
  if (ofGateway !== undefined) return ofGateway;
  const service = held.find(({ key, selector, requiredBy }) => {
    const entries = Object.entries(selector ?? {});
    return (
      requiredBy !== undefined &&
      key.startsWith(`${metadata.namespace ?? ''}/`) &&
      entries.length > 0 &&
      entries.every(([name, value]) => metadata.labels?.[name] === value)
    );
  });
  return /^because of (\S+ \S+) /.exec(service?.requiredBy ?? '')?.[1];
}

async function boundPods(
  kube: Kube,
  gateway: KubeObject,
  namespaces: Namespaces,
): Promise<readonly KubeObject[]> {
  const purpose = purposeOf(gateway, await classLabelsOf(kube));
  if (purpose !== 'workload' && purpose !== 'all') return [];
  return (await kube.list('/api/v1/pods')).filter(
    (pod) =>
      targetOf(pod, namespaces) === keyOf(gateway) &&
      pod.metadata.labels?.[gatewayLabel] === undefined,
  );
}

/** Whether it takes what came past the waypoint although a policy says otherwise. */
function bypasses({ metadata }: KubeObject, namespaces: Namespaces): boolean {
  const ofNamespace = namespaces.get(metadata.namespace ?? '')?.metadata.annotations;
  const value =
    metadata.annotations?.[bypassWaypointAnnotation] ?? ofNamespace?.[bypassWaypointAnnotation];
  return value === 'allow';
}

const gatewayLabel = 'gateway.networking.k8s.io/gateway-name';

/** The waypoint that the labels of an object, or else of its namespace, name. */
function targetOf({ metadata }: KubeObject, namespaces: Namespaces): string | undefined {
  const own = metadata.labels ?? {};
  const ofNamespace = namespaces.get(metadata.namespace ?? '')?.metadata.labels ?? {};
  const labels = own[useWaypointLabel] === undefined ? ofNamespace : own;
  const name = labels[useWaypointLabel];
  if (name === undefined || name === '' || name === 'none') return undefined;
  return `${labels[useWaypointNamespaceLabel] ?? metadata.namespace ?? ''}/${name}`;
}
