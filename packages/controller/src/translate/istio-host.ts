import type { Hostname } from '@ambit/api';
import { parseHostname } from '@ambit/api';

/** A core Service as Istio's resources name it. */
export interface ServiceName {
  readonly namespace: string;
  readonly name: string;
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

export function hostnameOf({ name, namespace }: ServiceName, clusterDomain: string): Hostname {
  return `${name}.${namespace}.svc.${clusterDomain}` as Hostname;
}
