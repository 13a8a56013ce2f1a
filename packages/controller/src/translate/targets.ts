import type { PolicyTarget } from '@ambit/api';
import { serviceKey } from '@ambit/api';

import { field, list, text } from '../kube/decode/fields.ts';
import type { ClusterFacts } from './workload.ts';
import { hostnameOf } from './istio-host.ts';

export interface TargetRefSpec {
  readonly group?: string;
  readonly kind?: string;
  readonly name?: string;
  readonly namespace?: string;
}

/** What `targetRef` and `targetRefs` name; what cannot be a target is told and left out. */
export function compileTargets(
  spec: TargetedSpec,
  namespace: string,
  cluster: TargetCluster,
  report: (field: string, message: string) => void,
): PolicyTarget[] {
  return placedTargets(spec, namespace, cluster, report).map(({ target }) => target);
}

export interface TargetedSpec {
  readonly targetRef?: TargetRefSpec;
  readonly targetRefs?: readonly TargetRefSpec[];
}

export type TargetCluster = Pick<ClusterFacts, 'rootNamespace' | 'clusterDomain'>;

/** A target and where it is named. */
export interface PlacedTarget {
  readonly path: string;
  readonly target: PolicyTarget;
}

export function placedTargets(
  spec: TargetedSpec,
  namespace: string,
  cluster: TargetCluster,
  report: (field: string, message: string) => void,
): PlacedTarget[] {
  const written: readonly (readonly [string, TargetRefSpec])[] = [
    ...(spec.targetRef === undefined ? [] : [['spec.targetRef', spec.targetRef] as const]),
    ...(spec.targetRefs ?? []).map((ref, index) => [`spec.targetRefs[${index}]`, ref] as const),
  ];
  return written.flatMap(([path, ref]): PlacedTarget[] => {
    const { group = '', kind = '', name = '' } = ref;
    if (ref.namespace !== undefined && ref.namespace !== namespace) {
      report(`${path}.namespace`, 'must be the namespace of the policy');
      return [];
    }
    if (name === '') {
      report(`${path}.name`, 'must not be empty');
      return [];
    }
    const target = targetOf({ group, kind, name }, namespace, cluster);
    if (target?.kind === 'gateway-class' && namespace !== cluster.rootNamespace) {
      report(
        path,
        `a GatewayClass may be named in the root namespace ${cluster.rootNamespace} only`,
      );
      return [];
    }
    if (target !== undefined) return [{ path, target }];
    report(
      `${path}.kind`,
      `${kind} of group ${JSON.stringify(group)} cannot be a target: use Service, ServiceEntry, Gateway or GatewayClass`,
    );
    return [];
  });
}

/** The targets of a resource that breaks its schema; none where they are broken themselves. */
export function readableTargets(
  raw: unknown,
  namespace: string,
  cluster: TargetCluster,
): PolicyTarget[] {
  const one = field(raw, 'targetRef');
  const written = [...(one === undefined ? [] : [one]), ...list(field(raw, 'targetRefs'))];
  const targetRefs = written.map((ref) => ({
    group: text(field(ref, 'group')),
    kind: text(field(ref, 'kind')),
    name: text(field(ref, 'name')),
  }));
  const targets = compileTargets({ targetRefs }, namespace, cluster, () => undefined);
  return targets.length === written.length ? targets : [];
}

function targetOf(
  { group, kind, name }: { group: string; kind: string; name: string },
  namespace: string,
  { clusterDomain }: Pick<ClusterFacts, 'clusterDomain'>,
): PolicyTarget | undefined {
  switch (`${group === 'core' ? '' : group}/${kind}`) {
    case '/Service': {
      const service = serviceKey(namespace, hostnameOf({ name, namespace }, clusterDomain));
      return { kind: 'service', service };
    }
    case 'networking.istio.io/ServiceEntry':
      return { kind: 'service-entry', namespace, name };
    case `${gatewayGroup}/Gateway`:
      return { kind: 'gateway', namespace, name };
    case `${gatewayGroup}/GatewayClass`:
      return { kind: 'gateway-class', name };
    default:
      return undefined;
  }
}

const gatewayGroup = 'gateway.networking.k8s.io';

/** A target as one text, for an index. */
export function targetName(target: PolicyTarget): string {
  switch (target.kind) {
    case 'service':
      return `service ${target.service}`;
    case 'gateway':
      return `gateway ${target.namespace}/${target.name}`;
    case 'service-entry':
      return `entry ${target.namespace}/${target.name}`;
    case 'gateway-class':
      return `class ${target.name}`;
  }
}
