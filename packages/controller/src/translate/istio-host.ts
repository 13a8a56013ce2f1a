import type { Hostname, ServiceKey } from '@ambit/api';
import { parseHostname } from '@ambit/api';

/** A service as Istio's resources name it: a core Service, or a host of a ServiceEntry. */
export interface ServiceName {
  readonly namespace: string;
  readonly name: string;
  /** Set for a host of a ServiceEntry. */
  readonly hostname?: Hostname;
}

/**
 * What a host of VirtualService or DestinationRule means: a short name is a Service of the resource's own namespace,
 * `name.namespace` and the full name are what they say. Undefined for what is no Service of this cluster.
 */
export function serviceOfHost(
  host: string,
  namespace: string,
  clusterDomain: string,
): ServiceName | undefined {
  const parsed = parseHostname(host);
  if (!parsed.ok) return undefined;
  const parts: readonly string[] = parsed.value.split('.');
  const [name = '', own = namespace, svc = 'svc', ...domain] = parts;
  if (svc !== 'svc') return undefined;
  if (domain.length > 0 && domain.join('.') !== clusterDomain) return undefined;
  return { namespace: own, name };
}

export function hostnameOf(
  { name, namespace, hostname }: ServiceName,
  clusterDomain: string,
): Hostname {
  return hostname ?? (`${name}.${namespace}.svc.${clusterDomain}` as Hostname);
}

/** `<namespace>/<name>` of the core Service that a key in the mesh stands for. */
export function serviceObjectKey(service: ServiceKey): string {
  const [namespace = '', hostname = ''] = service.split('/');
  return `${namespace}/${hostname.split('.')[0] ?? ''}`;
}

/** Finds what a host means to a resource of `namespace`. */
export type HostResolver = (host: string, namespace: string) => ServiceName | undefined;

/** Without a resolver only Services of the cluster are meant. */
export function meant(
  host: string,
  namespace: string,
  world: { readonly clusterDomain: string; readonly host?: HostResolver },
): ServiceName | undefined {
  return world.host === undefined
    ? serviceOfHost(host, namespace, world.clusterDomain)
    : world.host(host, namespace);
}
