import { dryRunAnnotation, waypointClass } from '@ambit/api';
import type { Kube, KubeObject } from '../kube.ts';
import type { Bindings, Held } from './bindings.ts';
import { keyOf } from './objects.ts';

/** One line of what a policy closes to those who do not come through a waypoint. */
export interface PolicyRow {
  readonly kind: string;
  readonly name: string;
  readonly message: string;
}

export interface Policy {
  readonly kind: 'AuthorizationPolicy' | 'RequestAuthentication';
  readonly object: KubeObject;
}

const security = '/apis/security.istio.io/v1';
const listed = [
  ['AuthorizationPolicy', `${security}/authorizationpolicies`],
  ['RequestAuthentication', `${security}/requestauthentications`],
] as const;

/** Every policy of the cluster that is attached to targets. */
export async function targetedPolicies(kube: Kube): Promise<readonly Policy[]> {
  const found: Policy[] = [];
  for (const [kind, path] of listed) {
    const objects = await kube.listIfKnown(path);
    found.push(
      ...objects
        .filter((object) => targetsOf(object).length > 0)
        .map((object) => ({ kind, object })),
    );
  }
  return found;
}

/** Pure: the first policy that holds for whatever is bound to a waypoint, `<kind> <namespace>/<name>`. */
export function policyOfGateway(gateway: string, policies: readonly Policy[]): string | undefined {
  const found = policies.find(
    (one) => whyNotEnforced(one) === undefined && coversGateway(one.object, gateway),
  );
  return found && `${found.kind} ${keyOf(found.object)}`;
}

/**
 * Pure: what each policy closes, for those of the waypoint's namespace and those that hold for what is bound to it. The
 * controller's conditions say what is closed; why nothing is, the policy itself says.
 */
export function policyRows(
  gateway: string,
  policies: readonly Policy[],
  bindings: Pick<Bindings, 'held' | 'pods'>,
): readonly PolicyRow[] {
  const [namespace] = gateway.split('/');
  return policies.flatMap((policy) => {
    const closed = closedBy(policy, gateway, bindings);
    const isNear = policy.object.metadata.namespace === namespace;
    const concerns = closed.pods || closed.held.some(({ waypoint }) => waypoint === gateway);
    if (!isNear && !concerns) return [];
    const message = messageOf(policy, gateway, closed);
    return [{ kind: policy.kind, name: keyOf(policy.object), message }];
  });
}

interface Closed {
  readonly held: readonly Held[];
  /** Also pods that are bound by their own address. */
  readonly pods: boolean;
  /** What the controller says of one that takes everything nevertheless. */
  readonly bypassed: string | undefined;
}

function closedBy(
  policy: Policy,
  gateway: string,
  { held, pods }: Pick<Bindings, 'held' | 'pods'>,
): Closed {
  const named = `because of ${policy.kind} ${keyOf(policy.object)} `;
  const isEnforced = whyNotEnforced(policy) === undefined;
  return {
    // A condition names the first of several policies; the others hold there as well.
    held: held.filter(
      (one) =>
        one.requiredBy !== undefined &&
        (one.requiredBy.startsWith(named) || (isEnforced && covers(policy, one))),
    ),
    bypassed: held.find((one) => one.bypassed !== undefined && isEnforced && covers(policy, one))
      ?.bypassed,
    pods: pods.length > 0 && isEnforced && coversGateway(policy.object, gateway),
  };
}

function messageOf(policy: Policy, gateway: string, { held, pods, bypassed }: Closed): string {
  const through = held.filter(({ waypoint }) => waypoint === gateway).map(nameOf);
  const unbound = held.filter(({ waypoint }) => waypoint === undefined).map(nameOf);
  const elsewhere = held.filter(({ waypoint }) => waypoint !== undefined && waypoint !== gateway);
  const what = [...through, ...(pods ? ['pods bound by their own address'] : [])];
  const closed = [
    ...(what.length === 0 ? [] : [`${some(what)}: refused unless it came through ${gateway}`]),
    ...elsewhere.map((one) => `${nameOf(one)}: refused unless it came through ${one.waypoint}`),
    ...(unbound.length === 0 ? [] : [`${some(unbound)}: refused, and bound to no waypoint`]),
  ];
  const wrong = problemOf(policy.object);
  if (closed.length > 0)
    return [...closed, ...(wrong === undefined ? [] : [wrong.text])].join('; ');
  const idle = whyNotEnforced(policy);
  if (idle !== undefined) return `${nothing}: ${idle}`;
  if (wrong === undefined) return bypassed ?? whyIdle(policy, gateway);
  // Of what is not understood only the controller knows how much it keeps closed.
  return wrong.reason === 'TargetNotFound' ? `${nothing}: ${wrong.text}` : wrong.text;
}

const nothing = 'nothing is refused for it';

/** A policy that only rehearses or tells closes nothing. */
function whyNotEnforced({ kind, object }: Policy): string | undefined {
  if (kind !== 'AuthorizationPolicy') return undefined;
  if (object.metadata.annotations?.[dryRunAnnotation] === 'true') return 'it is in dry run';
  return object.spec?.['action'] === 'AUDIT' ? 'its action is AUDIT' : undefined;
}

interface Fault {
  readonly reason: string;
  readonly text: string;
}

/** What the controller finds wrong with it. */
function problemOf(object: KubeObject): Fault | undefined {
  const found = acceptance(object);
  if (found?.status !== 'False') return undefined;
  const { reason = 'Invalid', message = '' } = found;
  return { reason, text: `${reason}: ${message}` };
}

/** In this order: what node proxies make of a policy may still stand there from before it had targets. */
const acceptances = ['WaypointAccepted', 'Accepted', 'ZtunnelAccepted'];

function acceptance({ status }: KubeObject) {
  const conditions = status?.conditions ?? [];
  return acceptances
    .map((type) => conditions.find((one) => one.type === type))
    .find((one) => one !== undefined);
}

function whyIdle({ object }: Policy, gateway: string): string {
  if (acceptance(object) === undefined)
    return `${nothing}: the controller has not said anything yet`;
  const gateways = targetsOf(object).filter(({ kind }) => gatewayKinds.has(kind));
  const targets = some(gateways.map(({ kind, name }) => `${kind} ${name}`));
  if (gateways.length === 0)
    return `${nothing}: the controller has not said anything of its targets yet`;
  return coversGateway(object, gateway)
    ? `${nothing}: nothing is closed that is bound to ${targets}`
    : `nothing here: it holds for what is bound to ${targets}`;
}

const gatewayKinds: ReadonlySet<string> = new Set(['Gateway', 'GatewayClass']);

interface Target {
  readonly kind: string;
  readonly name: string;
}

function targetsOf({ spec }: KubeObject): readonly Target[] {
  const several = spec?.['targetRefs'];
  const refs: readonly unknown[] = [
    spec?.['targetRef'],
    ...(Array.isArray(several) ? (several as readonly unknown[]) : []),
  ];
  return refs.flatMap((ref) => {
    const { kind, name } = (ref ?? {}) as { readonly kind?: unknown; readonly name?: unknown };
    return typeof kind === 'string' && typeof name === 'string' ? [{ kind, name }] : [];
  });
}

function covers(policy: Policy, { kind, key, waypoint }: Held): boolean {
  const { namespace } = policy.object.metadata;
  return (
    (waypoint !== undefined && coversGateway(policy.object, waypoint)) ||
    targetsOf(policy.object).some((one) => one.kind === kind && `${namespace}/${one.name}` === key)
  );
}

function coversGateway(object: KubeObject, gateway: string): boolean {
  return targetsOf(object).some(({ kind, name }) => {
    if (kind === 'Gateway') return `${object.metadata.namespace ?? ''}/${name}` === gateway;
    // Outside the root namespace the controller finds fault with it.
    return kind === 'GatewayClass' && name === waypointClass && isAccepted(object);
  });
}

function isAccepted(object: KubeObject): boolean {
  return acceptance(object)?.status === 'True';
}

function nameOf({ kind, key }: Held): string {
  return `${kind} ${key}`;
}

const maxNamed = 3;

function some(names: readonly string[]): string {
  const rest = names.length - maxNamed;
  const shown = names.slice(0, maxNamed).join(', ');
  return rest > 0 ? `${shown} and ${rest} more` : shown;
}
