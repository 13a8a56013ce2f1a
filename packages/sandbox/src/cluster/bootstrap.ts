import type { EndpointSlice, KubeObject, Service } from './objects.ts';
import { network } from '../net/plan.ts';
import { isConflict, mutate, resources, type ClusterStore, type ResourceType } from './store.ts';

export interface BootstrapOptions {
  readonly apiAddress: { readonly host: string; readonly port: number };
  readonly apiCa: string;
  readonly ipv6: boolean;
}

const namespaces = ['default', 'kube-system', 'kube-public', 'kube-node-lease'];

/** What every cluster has before anybody asks: its namespaces and the services of the API and of DNS. */
export async function ensureClusterObjects(
  store: ClusterStore,
  options: BootstrapOptions,
): Promise<void> {
  for (const name of namespaces) {
    await ensure(store, resources.namespaces, {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name, labels: { 'kubernetes.io/metadata.name': name } },
    });
  }
  const { v4: api4 } = network.apiService;
  await ensure(
    store,
    resources.services,
    serviceObject(
      'default',
      'kubernetes',
      [api4],
      [{ name: 'https', port: 443, protocol: 'TCP', targetPort: options.apiAddress.port }],
    ),
  );
  const dnsIps = options.ipv6
    ? [network.dnsService.v4, network.dnsService.v6]
    : [network.dnsService.v4];
  const dnsPorts = [
    { name: 'dns', port: 53, protocol: 'UDP', targetPort: 53 },
    { name: 'dns-tcp', port: 53, protocol: 'TCP', targetPort: 53 },
  ];
  await ensure(
    store,
    resources.services,
    serviceObject('kube-system', 'kube-dns', dnsIps, dnsPorts),
  );
  const slices = [
    sliceObject('default', 'kubernetes', options.apiAddress.host, [
      { name: 'https', port: options.apiAddress.port, protocol: 'TCP' },
    ]),
    sliceObject('kube-system', 'kube-dns', network.controlPlane.v4, servedBy(dnsPorts)),
    ...(options.ipv6
      ? [sliceObject('kube-system', 'kube-dns', network.controlPlane.v6, servedBy(dnsPorts))]
      : []),
  ];
  for (const slice of slices) {
    await ensure(store, resources.endpointSlices, slice);
    // A kept state may name the API's port of an earlier run.
    await mutate(
      store,
      resources.endpointSlices,
      { namespace: slice.metadata.namespace ?? '', name: slice.metadata.name },
      (object) => {
        if (
          JSON.stringify([object.endpoints, object.ports]) ===
          JSON.stringify([slice.endpoints, slice.ports])
        )
          return false;
        object.endpoints = slice.endpoints;
        object.ports = slice.ports ?? [];
        return true;
      },
    );
  }
}

function servedBy(
  ports: readonly { name: string; targetPort: number; protocol: string }[],
): NonNullable<EndpointSlice['ports']> {
  return ports.map(({ name, targetPort, protocol }) => ({ name, port: targetPort, protocol }));
}

async function ensure<T extends KubeObject>(
  store: ClusterStore,
  type: ResourceType<T>,
  object: T,
): Promise<void> {
  if ((await store.get(type, object.metadata.namespace ?? '', object.metadata.name)) !== undefined)
    return;
  try {
    await store.create(type, object);
  } catch (error) {
    if (!isConflict(error)) throw error;
  }
}

function serviceObject(
  namespace: string,
  name: string,
  ips: readonly string[],
  ports: Service['spec']['ports'],
): Service {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name,
      namespace,
      labels:
        name === 'kube-dns'
          ? { 'k8s-app': 'kube-dns' }
          : { component: 'apiserver', provider: 'kubernetes' },
    },
    spec: {
      type: 'ClusterIP',
      clusterIP: ips[0] ?? '',
      clusterIPs: [...ips],
      ipFamilies: ips.map((ip) => (ip.includes(':') ? 'IPv6' : 'IPv4')),
      ipFamilyPolicy: ips.length > 1 ? 'RequireDualStack' : 'SingleStack',
      ports: ports ?? [],
    },
  };
}

function sliceObject(
  namespace: string,
  name: string,
  ip: string,
  ports: NonNullable<EndpointSlice['ports']>,
): EndpointSlice {
  const addressType = ip.includes(':') ? 'IPv6' : 'IPv4';
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: `${name}-${addressType.toLowerCase()}`,
      namespace,
      labels: { 'kubernetes.io/service-name': name },
    },
    addressType,
    endpoints: [
      { addresses: [ip], conditions: { ready: true, serving: true, terminating: false } },
    ],
    ports,
  };
}
