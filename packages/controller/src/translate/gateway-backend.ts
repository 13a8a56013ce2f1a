import type { HeaderChanges, Mirror, Port, Service, Target, WeightedTarget } from '@ambit/api';
import { noChanges, serviceKey } from '@ambit/api';

import type {
  BackendObjectRefSpec,
  BackendRefSpec,
  HttpFilterSpec,
  RequestMirrorSpec,
} from '../resources/gateway-api.ts';
import { gatewayApiGroup } from '../resources/gateway-api.ts';
import type { Compilation, UnresolvedReason } from './gateway-compilation.ts';

/** Header changes that hold for one backend only. */
export interface BackendChanges {
  readonly request: HeaderChanges;
  readonly response: HeaderChanges;
}

/** A backend with the filters that only HTTP has. */
export interface FilteredBackendRef extends BackendRefSpec {
  readonly filters?: readonly HttpFilterSpec[];
}

const nowhere: Target = { kind: 'missing', why: 'the rule has no backendRefs' };

/**
 * Where a rule's traffic goes. A reference that cannot be followed keeps its weight and becomes a missing target, so
 * that its share is refused and does not fall to the others.
 */
export function compileTargets(
  refs: readonly FilteredBackendRef[] | undefined,
  path: string,
  compilation: Compilation,
  changes: (ref: FilteredBackendRef, path: string) => BackendChanges = () => noBackendChanges,
): WeightedTarget[] {
  if (refs === undefined || refs.length === 0) {
    return [{ weight: 1, target: nowhere, ...noBackendChanges }];
  }
  if (refs.every(({ weight }) => weight === 0)) compilation.note(path, weightless(compilation));
  return refs.map((ref, index) => {
    const at = `${path}[${index}]`;
    const target = compileTarget(ref, at, compilation);
    return { weight: ref.weight ?? 1, target, ...changes(ref, at) };
  });
}

function weightless({ kind }: Compilation): string {
  const isHttp = kind === 'HTTPRoute' || kind === 'GRPCRoute';
  const consequence = isHttp ? 'requests are answered 500' : 'connections are closed';
  return `the weights sum to 0: ${consequence}; give one of them a weight`;
}

export const noBackendChanges: BackendChanges = { request: noChanges, response: noChanges };

export function compileTarget(
  ref: BackendObjectRefSpec,
  path: string,
  compilation: Compilation,
): Target {
  const missing = (reason: UnresolvedReason, field: string, why: string): Target => {
    compilation.unresolved(reason, `${path}.${field}`, why);
    return { kind: 'missing', why };
  };
  const { world } = compilation;
  const group = ref.group ?? '';
  const kind = ref.kind ?? 'Service';
  if (group === 'networking.istio.io' && kind === 'Hostname') {
    const host = world.entryHost?.(ref.name, compilation.namespace);
    if (host === undefined)
      return missing('BackendNotFound', 'name', `${ref.name} is no host of a ServiceEntry`);
    return toPort(host, `host ${ref.name}`, ref.port, missing);
  }
  if (group !== '' || kind !== 'Service') {
    const shown = group === '' ? kind : `${kind}.${group}`;
    return missing('InvalidKind', 'kind', `${shown} is no kind of backend; refer to a Service`);
  }
  const namespace = ref.namespace ?? compilation.namespace;
  const key = `${namespace}/${ref.name}`;
  if (namespace !== compilation.namespace && !isGranted(ref.name, namespace, compilation)) {
    const why =
      `Service ${key} may not be referred to; create a ReferenceGrant in namespace ${namespace} ` +
      `from ${compilation.kind} of namespace ${compilation.namespace}`;
    return missing('RefNotPermitted', 'namespace', why);
  }
  const service = world.service(namespace, ref.name);
  if (service === undefined) {
    return missing('BackendNotFound', 'name', `there is no Service ${key}`);
  }
  return toPort(service, `Service ${key}`, ref.port, missing);
}

function toPort(
  service: Service,
  name: string,
  wanted: number | undefined,
  missing: (reason: UnresolvedReason, field: string, why: string) => Target,
): Target {
  if (wanted === undefined)
    return missing('BackendNotFound', 'port', `must be set to a port of ${name}`);
  const port = service.ports.find((one) => one.port === wanted);
  return port === undefined
    ? missing('BackendNotFound', 'port', `${name} has no TCP port ${wanted}`)
    : serviceTarget(service, port.port);
}

export function serviceTarget(
  service: {
    readonly namespace: string;
    readonly hostname: Parameters<typeof serviceKey>[1];
  },
  port: Port,
): Target {
  return { kind: 'service', service: serviceKey(service.namespace, service.hostname), port };
}

/** What is meant for a Service may be sent to that very Service: a client's route needs no grant for it. */
function isGranted(name: string, namespace: string, compilation: Compilation): boolean {
  if (compilation.onlyParent === `${namespace}/${name}`) return true;
  return compilation.world.granted(
    { group: gatewayApiGroup, kind: compilation.kind, namespace: compilation.namespace },
    { group: '', kind: 'Service', namespace, name },
  );
}

/** Undefined when there is nowhere to mirror to: requests go on without their copies. */
export function compileMirror(
  spec: RequestMirrorSpec,
  path: string,
  compilation: Compilation,
): Mirror | undefined {
  const percentage = mirrorPercentage(spec, path, compilation);
  const target = compileTarget(spec.backendRef, `${path}.backendRef`, compilation);
  return target.kind === 'missing' ? undefined : { target, percentage };
}

function mirrorPercentage(
  { percent, fraction }: RequestMirrorSpec,
  path: string,
  compilation: Compilation,
): number {
  if (fraction === undefined) return percent ?? 100;
  if (percent !== undefined) {
    compilation.refuse(`${path}.fraction`, 'cannot be combined with percent; remove one');
  }
  const denominator = fraction.denominator ?? 100;
  if (fraction.numerator > denominator) {
    compilation.refuse(`${path}.fraction.numerator`, `must be at most ${denominator}`);
    return 0;
  }
  return (fraction.numerator / denominator) * 100;
}
