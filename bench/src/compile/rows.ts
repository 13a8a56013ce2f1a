import type { KubeObject, Scale } from './world.ts';
import { namespaceOf, serviceOf } from './world.ts';

/** Objects of which there are few and then many. */
export interface Row {
  readonly name: string;
  /** The objects of a number, made in the order of these; another `variant` says something else. */
  objects(index: number, variant: number): readonly KubeObject[];
}

type Spec = (index: number, variant: number) => object;

const one = 'team-0';

export function rowsOf(scale: Scale): readonly Row[] {
  const spread: Place = (kind, spec) => objectsOf(kind, (index) => namespaceOf(index, scale), spec);
  const gathered: Place = (kind, spec) => objectsOf(kind, () => one, spec);
  return [
    ...trafficRows(scale, spread, gathered),
    ...securityRows(scale, spread, gathered),
    ...telemetryRows(spread, gathered),
    ...entryRows(gathered),
  ];
}

function trafficRows(scale: Scale, spread: Place, gathered: Place): readonly Row[] {
  const hostOf = (index: number): string =>
    `${serviceOf(index)}.${namespaceOf(index, scale)}.svc.cluster.local`;
  const wildcard = `*.${one}.svc.cluster.local`;
  const rule = spread('DestinationRule', (index, variant) => destination(hostOf(index), variant));
  const ofOne = (host: string): Row['objects'] =>
    gathered('DestinationRule', (_index, variant) => destination(host, variant));
  const virtual = (place: Place, host: (index: number) => string, subset = {}): Row['objects'] =>
    place('VirtualService', (index, variant) =>
      virtualService(host(index), index, variant, subset),
    );
  const route = (place: Place, service: (index: number) => string): Row['objects'] =>
    place('HTTPRoute', (index, variant) => httpRoute(service(index), index, variant));
  return [
    { name: 'DestinationRules, each of its own host', objects: rule },
    { name: 'DestinationRules of one host', objects: ofOne(hostOf(0)) },
    { name: 'DestinationRules of one wildcard', objects: ofOne(wildcard) },
    { name: 'VirtualServices, each of its own host', objects: virtual(spread, hostOf) },
    { name: 'VirtualServices of one host', objects: virtual(gathered, () => hostOf(0)) },
    {
      name: 'VirtualServices, each of a wildcard',
      objects: virtual(gathered, (index) => `*-${index}.${one}.svc.cluster.local`),
    },
    {
      name: 'DestinationRules and VirtualServices of one host',
      objects: (index, variant) => [
        ...ofOne(hostOf(0))(index, variant),
        ...virtual(gathered, () => hostOf(0), { subset: 'v0' })(index, variant),
      ],
    },
    { name: 'HTTPRoutes, each of its own Service', objects: route(spread, serviceOf) },
    { name: 'HTTPRoutes of one Service', objects: route(gathered, () => serviceOf(0)) },
    { name: 'HTTPRoutes, each with its ReferenceGrant', objects: granted(scale) },
  ];
}

/** Routes of a Service in another namespace, which all lead to one service, and who allows it. */
function granted({ namespaces }: Scale): Row['objects'] {
  const client = `team-${namespaces - 1}`;
  const routes = objectsOf(
    'HTTPRoute',
    () => client,
    (index, variant) => httpRoute(serviceOf(namespaces - 1), index, variant, one),
  );
  const grants = objectsOf(
    'ReferenceGrant',
    () => one,
    (_index, variant) => ({
      from: [{ group: 'gateway.networking.k8s.io', kind: 'HTTPRoute', namespace: client }],
      to: [{ group: '', kind: 'Service', ...(variant > 1 && { name: serviceOf(0) }) }],
    }),
  );
  return (index, variant) => [...routes(index, variant), ...grants(index, variant)];
}

function destination(host: string, variant: number): object {
  return {
    host,
    trafficPolicy: { connectionPool: { tcp: { maxConnections: 100 + variant } } },
    subsets: [{ name: `v${variant}`, labels: { version: 'v1' } }],
  };
}

function virtualService(host: string, index: number, variant: number, subset: object): object {
  const match = [{ uri: { prefix: `/of-${index}` } }];
  const route = [{ destination: { host: serviceOf(0), port: { number: 80 }, ...subset } }];
  return { hosts: [host], http: [{ match, timeout: `${variant + 1}s`, route }] };
}

function httpRoute(name: string, index: number, variant: number, other?: string): object {
  const matches = [{ path: { type: 'PathPrefix', value: `/of-${index}` } }];
  const timeouts = { request: `${variant + 1}s` };
  const backend = {
    port: 80,
    ...(other === undefined ? { name } : { name: serviceOf(0), namespace: other }),
  };
  return {
    parentRefs: [{ group: '', kind: 'Service', name, port: 80 }],
    rules: [{ matches, timeouts, backendRefs: [backend] }],
  };
}

function securityRows(scale: Scale, spread: Place, gathered: Place): readonly Row[] {
  const selector = (index: number): object => ({ matchLabels: { app: serviceOf(index) } });
  // Of the services of one namespace, which has every tenth.
  const selectorIn = (index: number) => selector((index * scale.namespaces) % scale.services);
  const policy = (of: (index: number) => object): Spec => {
    return (index, variant) => ({
      ...of(index),
      rules: [{ to: [{ operation: { ports: [`${8000 + variant}`] } }] }],
    });
  };
  const peer = (of: (index: number) => object): Spec => {
    return (index, variant) => ({
      ...of(index),
      mtls: { mode: variant % 2 === 0 ? 'STRICT' : 'PERMISSIVE' },
    });
  };
  const policies = 'AuthorizationPolicy';
  const peers = 'PeerAuthentication';
  const pods = (index: number) => ({ selector: selector(index) });
  const podsIn = (index: number) => ({ selector: selectorIn(index) });
  return [
    { name: 'AuthorizationPolicies that select', objects: spread(policies, policy(pods)) },
    { name: '– all in one namespace', objects: gathered(policies, policy(podsIn)) },
    {
      name: 'AuthorizationPolicies, each of its own Service',
      objects: spread(policies, policy(targets)),
    },
    { name: 'PeerAuthentications that select', objects: spread(peers, peer(pods)) },
    { name: '– all in one namespace', objects: gathered(peers, peer(podsIn)) },
    {
      name: 'PeerAuthentications for one namespace',
      objects: gathered(
        peers,
        peer(() => ({})),
      ),
    },
  ];
}

function targets(index: number): object {
  return { targetRefs: [{ group: '', kind: 'Service', name: serviceOf(index) }] };
}

function telemetryRows(spread: Place, gathered: Place): readonly Row[] {
  const telemetry = (of: (index: number) => object): Spec => {
    return (index, variant) => ({ ...of(index), accessLogging: [{ disabled: variant % 2 === 0 }] });
  };
  return [
    {
      name: 'Telemetries, each of its own Service',
      objects: spread('Telemetry', telemetry(targets)),
    },
    {
      name: 'Telemetries for one namespace',
      objects: gathered(
        'Telemetry',
        telemetry(() => ({})),
      ),
    },
  ];
}

function entryRows(gathered: Place): readonly Row[] {
  const entry = (host: string, variant: number): object => ({
    hosts: [host],
    ports: [{ number: 443 + variant, name: 'tls', protocol: 'TLS' }],
    resolution: 'DNS',
  });
  const selecting = gathered('ServiceEntry', (index, variant) => ({
    ...entry(`host-${index}.example.com`, variant),
    location: 'MESH_INTERNAL',
    resolution: 'STATIC',
    workloadSelector: { labels: { vm: `vm-${index}` } },
  }));
  const workloads = gathered('WorkloadEntry', (index, variant) => ({
    address: `10.200.${index >> 8}.${index & 255}`,
    labels: { vm: `vm-${index}` },
    weight: variant + 1,
  }));
  return [
    {
      name: 'ServiceEntries, each of its own host',
      objects: gathered('ServiceEntry', (index, variant) =>
        entry(`host-${index}.example.com`, variant),
      ),
    },
    {
      name: 'ServiceEntries of one host',
      objects: gathered('ServiceEntry', (_index, variant) => entry('host.example.com', variant)),
    },
    { name: 'ServiceEntries that select', objects: selecting },
    { name: 'WorkloadEntries', objects: workloads },
    {
      name: 'ServiceEntries, each with its WorkloadEntry',
      objects: (index, variant) => [...selecting(index, variant), ...workloads(index, variant)],
    },
  ];
}

type Place = (kind: string, spec: Spec) => Row['objects'];

const firstMs = Date.UTC(2026, 0, 1);

function objectsOf(kind: string, namespace: (index: number) => string, spec: Spec): Row['objects'] {
  return (index, variant) => [
    {
      kind,
      metadata: {
        name: `of-${index}`,
        namespace: namespace(index),
        creationTimestamp: new Date(firstMs + index * 1000).toISOString(),
      },
      spec: spec(index, variant),
    },
  ];
}
