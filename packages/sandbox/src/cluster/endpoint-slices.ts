import type {
  Endpoint,
  EndpointPort,
  Endpoints,
  EndpointSlice,
  Node,
  Pod,
  Service,
} from './objects.ts';
import { includesLabels, isFinished, isReady, isTerminating, ownedBy } from './labels.ts';
import { isMissing, keyOf, mutate, resources, splitKey, type ClusterStore } from './store.ts';
import { createWorkQueue } from './work-queue.ts';
import type { Controller, ControllerContext } from './controller.ts';

const serviceNameLabel = 'kubernetes.io/service-name';
const managedByLabel = 'endpointslice.kubernetes.io/managed-by';
const managedBy = 'endpointslice-controller.k8s.io';

/** Keeps EndpointSlices and legacy Endpoints of every Service with a selector. */
export function startEndpointSlices({ store, logger }: ControllerContext): Controller {
  const queue = createWorkQueue('endpointslices', logger, async (key) => {
    const { namespace, name } = splitKey(key);
    const service = await store.get(resources.services, namespace, name);
    const slices = (await store.list(resources.endpointSlices, { namespace })).filter(
      (slice) =>
        slice.metadata.labels?.[serviceNameLabel] === name &&
        slice.metadata.labels[managedByLabel] === managedBy,
    );
    if (
      service === undefined ||
      isTerminating(service) ||
      Object.keys(service.spec.selector ?? {}).length === 0
    ) {
      if (service !== undefined) return;
      for (const slice of slices) await remove(store, slice);
      return;
    }
    const pods = (await store.list(resources.pods, { namespace })).filter((pod) =>
      includesLabels(pod.metadata.labels, service.spec.selector ?? {}),
    );
    const nodes = new Map(
      (await store.list(resources.nodes)).map((node) => [node.metadata.name, node]),
    );
    const wanted = desiredSlices(service, pods, nodes);
    for (const slice of slices) {
      if (!wanted.some((w) => w.metadata.name === slice.metadata.name)) await remove(store, slice);
    }
    for (const slice of wanted)
      await apply(
        store,
        slice,
        slices.find((s) => s.metadata.name === slice.metadata.name),
      );
    await applyEndpoints(store, service, wanted);
  });

  const podServices = async (pod: Pod): Promise<void> => {
    for (const service of await store.list(resources.services, {
      namespace: pod.metadata.namespace ?? '',
    })) {
      const { selector = {} } = service.spec;
      if (Object.keys(selector).length > 0 && includesLabels(pod.metadata.labels, selector))
        queue.add(keyOf(service));
    }
  };
  // Labels may have changed, and then the services selected before must look again too.
  const labelsBefore = new Map<string, Pod>();
  const stops = [
    store.observe(resources.services, ({ object }) => queue.add(keyOf(object))),
    store.observe(resources.pods, ({ kind, object }) => {
      const before = labelsBefore.get(keyOf(object));
      if (kind === 'DELETED') labelsBefore.delete(keyOf(object));
      else labelsBefore.set(keyOf(object), object);
      void podServices(object);
      if (
        before !== undefined &&
        JSON.stringify(before.metadata.labels) !== JSON.stringify(object.metadata.labels)
      ) {
        void podServices(before);
      }
    }),
  ];
  return {
    async close() {
      for (const stop of stops) stop();
      await queue.close();
    },
  };
}

async function remove(store: ClusterStore, slice: EndpointSlice): Promise<void> {
  try {
    await store.delete(
      resources.endpointSlices,
      slice.metadata.namespace ?? '',
      slice.metadata.name,
    );
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

async function apply(
  store: ClusterStore,
  wanted: EndpointSlice,
  present: EndpointSlice | undefined,
): Promise<void> {
  if (present === undefined) {
    await store.create(resources.endpointSlices, wanted);
    return;
  }
  const same =
    JSON.stringify([present.endpoints, present.ports]) ===
    JSON.stringify([wanted.endpoints, wanted.ports]);
  if (same) return;
  await mutate(store, resources.endpointSlices, splitKey(keyOf(wanted)), (slice) => {
    slice.endpoints = wanted.endpoints;
    slice.ports = wanted.ports ?? [];
    return true;
  });
}

async function applyEndpoints(
  store: ClusterStore,
  service: Service,
  slices: readonly EndpointSlice[],
): Promise<void> {
  const primary = slices.find((slice) => slice.addressType === 'IPv4') ?? slices[0];
  const subsets = primary === undefined ? [] : legacySubsets(primary);
  const key = splitKey(keyOf(service));
  const updated = await mutate(store, resources.endpoints, key, (object) => {
    if (JSON.stringify(object.subsets ?? []) === JSON.stringify(subsets)) return false;
    object.subsets = subsets;
    return true;
  });
  if (updated !== undefined) return;
  await store.create(resources.endpoints, {
    apiVersion: 'v1',
    kind: 'Endpoints',
    metadata: { ...key, ownerReferences: [ownedBy(service)] },
    subsets,
  });
}

/** One slice per address family and set of resolved ports. */
export function desiredSlices(
  service: Service,
  pods: readonly Pod[],
  nodes: ReadonlyMap<string, Node>,
): EndpointSlice[] {
  const families = service.spec.ipFamilies ?? ['IPv4'];
  const candidates = pods.filter(
    (pod) => !isFinished(pod) && (pod.status?.podIPs ?? []).length > 0,
  );
  const slices: EndpointSlice[] = [];
  for (const family of families) {
    const addressType = family === 'IPv6' ? 'IPv6' : 'IPv4';
    const groups = new Map<string, { ports: EndpointPort[]; endpoints: Endpoint[] }>();
    for (const pod of candidates) {
      const address = pod.status?.podIPs?.find(
        ({ ip }) => ip.includes(':') === (addressType === 'IPv6'),
      )?.ip;
      if (address === undefined) continue;
      const ports = portsFor(service, pod);
      const key = JSON.stringify(ports);
      const group = groups.get(key) ?? { ports, endpoints: [] };
      groups.set(key, group);
      group.endpoints.push(endpointOf(service, pod, address, nodes));
    }
    if (groups.size === 0) groups.set('', { ports: [], endpoints: [] });
    let index = 0;
    for (const { ports, endpoints } of groups.values()) {
      index += 1;
      const suffix = `${addressType.toLowerCase()}${index > 1 ? `-${index}` : ''}`;
      slices.push({
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: {
          name: `${service.metadata.name}-${suffix}`,
          namespace: service.metadata.namespace ?? 'default',
          labels: {
            ...service.metadata.labels,
            [serviceNameLabel]: service.metadata.name,
            [managedByLabel]: managedBy,
            ...(service.spec.clusterIP === 'None' ? { 'service.kubernetes.io/headless': '' } : {}),
          },
          ownerReferences: [ownedBy(service)],
        },
        addressType,
        endpoints: endpoints.toSorted((a, b) =>
          (a.addresses[0] ?? '').localeCompare(b.addresses[0] ?? ''),
        ),
        ports,
      });
    }
  }
  return slices;
}

function endpointOf(
  service: Service,
  pod: Pod,
  address: string,
  nodes: ReadonlyMap<string, Node>,
): Endpoint {
  const serving = isReady(pod);
  const terminating = isTerminating(pod);
  const ready = (serving && !terminating) || service.spec.publishNotReadyAddresses === true;
  const { nodeName, hostname, subdomain } = pod.spec;
  const zone = nodes.get(nodeName ?? '')?.metadata.labels?.['topology.kubernetes.io/zone'];
  const { namespace = '', name, uid } = pod.metadata;
  return {
    addresses: [address],
    conditions: { ready, serving, terminating },
    ...(hostname !== undefined && subdomain === service.metadata.name ? { hostname } : {}),
    ...(nodeName === undefined ? {} : { nodeName }),
    targetRef: { kind: 'Pod', namespace, name, ...(uid === undefined ? {} : { uid }) },
    ...(zone === undefined ? {} : { zone }),
  };
}

function portsFor(service: Service, pod: Pod): EndpointPort[] {
  return (service.spec.ports ?? []).flatMap((port): EndpointPort[] => {
    const target = port.targetPort ?? port.port;
    const number =
      typeof target === 'number'
        ? target
        : pod.spec.containers.flatMap((c) => c.ports ?? []).find((p) => p.name === target)
            ?.containerPort;
    if (number === undefined) return [];
    return [
      {
        name: port.name ?? '',
        port: number,
        protocol: port.protocol ?? 'TCP',
        ...(port.appProtocol === undefined ? {} : { appProtocol: port.appProtocol }),
      },
    ];
  });
}

function legacySubsets(slice: EndpointSlice): NonNullable<Endpoints['subsets']> {
  if (slice.endpoints.length === 0) return [];
  const addresses = (
    ready: boolean,
  ): NonNullable<NonNullable<Endpoints['subsets']>[number]['addresses']> =>
    slice.endpoints
      .filter((e) => (e.conditions?.ready === true) === ready && e.conditions?.terminating !== true)
      .map((e) => ({
        ip: e.addresses[0] ?? '',
        ...(e.nodeName === undefined ? {} : { nodeName: e.nodeName }),
        ...(e.targetRef === undefined ? {} : { targetRef: e.targetRef }),
      }));
  const ready = addresses(true);
  const notReady = addresses(false);
  return [
    {
      ...(ready.length > 0 ? { addresses: ready } : {}),
      ...(notReady.length > 0 ? { notReadyAddresses: notReady } : {}),
      ports: (slice.ports ?? []).map(({ name = '', port = 0, protocol = 'TCP' }) => ({
        name,
        port,
        protocol,
      })),
    },
  ];
}
