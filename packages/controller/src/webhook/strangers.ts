import { waypointClass } from '@ambit/api';

import type { Sources } from '../collections/sources.ts';
import type { Metadata } from '../kube/decode/fields.ts';
import type { Scope } from '../kube/scope.ts';
import type { ParentRefSpec } from '../resources/gateway-api.ts';
import { controllerName } from '../status/controller-name.ts';
import { classUnsupported } from '../status/gateway-class.ts';
import { isGateway } from '../translate/gateway-parent.ts';

/** What is known of Gateways, which may be anybody's. */
export interface GatewayWorld {
  readonly sources: Pick<Sources, 'gateways' | 'gatewayClasses'>;
  readonly scope: Pick<Scope, 'includes'>;
}

/** A field and what is to be told of it. */
export interface Told {
  readonly field: string;
  readonly message: string;
}

/** Why nobody serves the Gateways of a class; undefined where it is served, or is another controller's to speak of. */
export function unservedClass(
  name: string,
  { gatewayClasses }: Pick<Sources, 'gatewayClasses'>,
): string | undefined {
  if (name === waypointClass || name === '') return undefined;
  const found = gatewayClasses.get(name);
  if (found === undefined)
    return `there is no GatewayClass ${name}, so nobody serves it; the class of waypoints is ${waypointClass}`;
  const isOurs = found.spec.ok && found.spec.value.controllerName === controllerName;
  return isOurs ? `nobody serves ${name}: ${classUnsupported}` : undefined;
}

/** The Gateways among a route's parents that do nothing for anybody. Those of other controllers are theirs to judge. */
export function unservedParents(
  refs: readonly ParentRefSpec[],
  { namespace: own }: Pick<Metadata, 'namespace'>,
  { sources, scope }: GatewayWorld,
): readonly Told[] {
  return refs.flatMap((ref, index): Told[] => {
    const { namespace = own, name } = ref;
    // Of other namespaces no Gateway is read.
    if (!isGateway(ref) || !scope.includes(namespace)) return [];
    const key = `${namespace}/${name}`;
    const gateway = sources.gateways.get(key);
    if (gateway === undefined)
      return [{ field: `spec.parentRefs[${index}].name`, message: `there is no Gateway ${key}` }];
    const { spec } = gateway;
    const why = spec.ok ? unservedClass(spec.value.gatewayClassName ?? '', sources) : undefined;
    if (why === undefined) return [];
    const field = `spec.parentRefs[${index}]`;
    return [{ field, message: `nothing is done for Gateway ${key}: ${why}` }];
  });
}
