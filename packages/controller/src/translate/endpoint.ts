import type { IpAddress, Port, Service, ServiceKey, ServiceMembership } from '@ambit/api';
import { serviceKey } from '@ambit/api';

import type { EndpointSliceRecord } from '../kube/decode/endpoint-slice.ts';
import type { PodRecord } from '../kube/decode/pod.ts';

/** One endpoint of one slice, matched with the ports of its service. */
export interface Endpoint {
  readonly service: ServiceKey;
  readonly addresses: readonly IpAddress[];
  /** Key and UID of the pod it names; undefined for an endpoint that is only an address. */
  readonly pod: { readonly key: string; readonly uid: string } | undefined;
  readonly ready: boolean;
  readonly weight?: number;
  readonly ports: readonly { readonly servicePort: Port; readonly targetPort: Port }[];
}

/**
 * The endpoints of a slice under stable keys. The numbers in a slice are already what a named target port means
 * for its endpoints; they meet the service's ports by name.
 */
export function sliceEndpoints(
  slice: EndpointSliceRecord,
  service: Service,
): ReadonlyMap<string, Endpoint> {
  const ports: Endpoint['ports'][number][] = [];
  for (const { name, port } of service.ports) {
    const target = slice.ports.find((one) => one.name === name);
    if (target !== undefined) ports.push({ servicePort: port, targetPort: target.port });
  }
  const endpoints = new Map<string, Endpoint>();
  for (const one of slice.endpoints) {
    const pod =
      one.pod === undefined
        ? undefined
        : { key: `${one.pod.namespace}/${one.pod.name}`, uid: one.pod.uid };
    const id = `${pod?.key ?? ''}@${one.addresses.join(',')}`;
    endpoints.set(`${slice.meta.namespace}/${slice.meta.name}#${id}`, {
      service: serviceKey(service.namespace, service.hostname),
      addresses: one.addresses,
      pod,
      // A terminating endpoint is ready only where publishNotReadyAddresses asks for it.
      ready: one.ready && (!one.terminating || service.publishNotReady),
      ports,
    });
  }
  return endpoints;
}

/** True when the endpoint is this very pod: by reference (then with the same UID) or by address. */
export function isEndpointOf(endpoint: Endpoint, pod: PodRecord): boolean {
  const sharesAddress = endpoint.addresses.some((ip) => pod.addresses.includes(ip));
  if (endpoint.pod === undefined) return sharesAddress && !pod.hostNetwork;
  const samePod = endpoint.pod.key === `${pod.meta.namespace}/${pod.meta.name}`;
  const sameUid = endpoint.pod.uid === '' || endpoint.pod.uid === pod.meta.uid;
  return samePod && sameUid && sharesAddress;
}

/** A pod's memberships, one for each service: with dual stack it stands in several slices. */
export function memberships(endpoints: readonly Endpoint[]): ServiceMembership[] {
  const byService = new Map<ServiceKey, Endpoint[]>();
  for (const endpoint of endpoints) {
    const of = byService.get(endpoint.service);
    if (of === undefined) byService.set(endpoint.service, [endpoint]);
    else of.push(endpoint);
  }
  return [...byService]
    .sort(([left], [right]) => (left < right ? -1 : 1))
    .map(([service, of]) => {
      const ports = new Map<Port, Port>();
      const weight = of.find((one) => one.weight !== undefined)?.weight;
      for (const one of of) {
        for (const { servicePort, targetPort } of one.ports) ports.set(servicePort, targetPort);
      }
      return {
        service,
        ready: of.some((one) => one.ready),
        ...(weight === undefined ? {} : { weight }),
        ports: [...ports]
          .sort(([left], [right]) => left - right)
          .map(([servicePort, targetPort]) => ({ servicePort, targetPort })),
      };
    });
}
