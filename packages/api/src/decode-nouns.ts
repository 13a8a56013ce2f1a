import type { Cidr, IpAddress, Port } from './address.ts';
import { parseCidr, parseIp, parsePort } from './address.ts';
import type { Decoder } from './decode.ts';
import { boolean, branded, integer, list, object, oneOf, parsed, text, union } from './decode.ts';
import type { Hostname, ServiceKey } from './hostname.ts';
import { parseHostname } from './hostname.ts';
import type { SpiffeId, TrustDomain } from './identity.ts';
import { parseTrustDomain } from './identity.ts';
import type {
  AuthorizationPolicy,
  Clause,
  Match,
  PolicyKey,
  PolicyScope,
  PolicyTarget,
  RequestAttribute,
  Rule,
  StringPattern,
} from './policy.ts';
import { err, ok } from './result.ts';
import type { LoadBalancing, Service, ServiceEntryFacts } from './service.ts';
import type { WaypointRef } from './waypoint.ts';
import type {
  Locality,
  MtlsSettings,
  ServiceMembership,
  Workload,
  WorkloadUid,
} from './workload.ts';

export const ip: Decoder<IpAddress> = parsed(text, parseIp);
export const port: Decoder<Port> = parsed(integer, parsePort);
export const hostname: Decoder<Hostname> = parsed(text, parseHostname);
export const trustDomain: Decoder<TrustDomain> = parsed(text, parseTrustDomain);

export const labels: Decoder<(readonly [string, string])[]> = list((value, path) => {
  const [name, of] = list(text)(value, path);
  return [name ?? '', of ?? ''] as const;
});

const waypoint: Decoder<WaypointRef> = union<WaypointRef>('kind', {
  address: object((f) => ({
    kind: 'address' as const,
    ip: f.get('ip', ip),
    port: f.get('port', port),
  })),
  service: object((f) => ({
    kind: 'service' as const,
    service: f.get('service', branded<ServiceKey>()),
    port: f.get('port', port),
  })),
});

const mtlsMode = oneOf('STRICT', 'PERMISSIVE', 'DISABLE');

const mtls: Decoder<MtlsSettings> = object((f) => ({
  mode: f.get('mode', mtlsMode),
  ports: f.get(
    'ports',
    list(object((p) => ({ port: p.get('port', port), mode: p.get('mode', mtlsMode) }))),
  ),
}));

const locality: Decoder<Locality> = object((f) => ({
  region: f.get('region', text),
  zone: f.get('zone', text),
  subzone: f.get('subzone', text),
}));

const weight: Decoder<number> = parsed(integer, (value) =>
  value >= 1 && value <= 0xffff_ffff
    ? ok(value)
    : err({ code: 'api/not-a-weight', message: 'must be from 1 to 4294967295' }),
);

const membership: Decoder<ServiceMembership> = object((f) => ({
  service: f.get('service', branded<ServiceKey>()),
  ready: f.get('ready', boolean),
  ...f.optional('weight', weight),
  ports: f.get(
    'ports',
    list(
      object((p) => ({
        servicePort: p.get('servicePort', port),
        targetPort: p.get('targetPort', port),
      })),
    ),
  ),
}));

export const decodeWorkload: Decoder<Workload> = object((f) => ({
  uid: f.get('uid', branded<WorkloadUid>()),
  name: f.get('name', text),
  namespace: f.get('namespace', text),
  serviceAccount: f.get('serviceAccount', text),
  trustDomain: f.get('trustDomain', trustDomain),
  addresses: f.get('addresses', list(ip)),
  ...f.optional('hostname', hostname),
  hostNetwork: f.get('hostNetwork', boolean),
  node: f.get('node', text),
  network: f.get('network', text),
  clusterId: f.get('clusterId', text),
  locality: f.get('locality', locality),
  tunnel: f.get('tunnel', oneOf('none', 'hbone')),
  workloadName: f.get('workloadName', text),
  workloadKind: f.get(
    'workloadKind',
    oneOf('deployment', 'daemonset', 'statefulset', 'job', 'cronjob', 'pod'),
  ),
  canonicalName: f.get('canonicalName', text),
  canonicalRevision: f.get('canonicalRevision', text),
  mtls: f.get('mtls', mtls),
  policies: f.get('policies', list(branded<PolicyKey>())),
  services: f.get('services', list(membership)),
  ...f.optional('waypoint', waypoint),
  labels: f.get('labels', labels),
  waypointIdentities: f.get('waypointIdentities', list(branded<SpiffeId>())),
  ...f.optional('waypointRequiredBy', text),
}));

const loadBalancing: Decoder<LoadBalancing> = object((f): LoadBalancing => {
  const mode = f.get('mode', oneOf('any', 'failover', 'strict'));
  if (mode === 'any') return { mode };
  const scope = oneOf('network', 'region', 'zone', 'subzone', 'node', 'cluster');
  return { mode, scopes: f.get('scopes', list(scope)) };
});

const serviceEntry: Decoder<ServiceEntryFacts> = object((f) => ({
  name: f.get('name', text),
  location: f.get('location', oneOf('external', 'internal')),
  resolution: f.get('resolution', oneOf('none', 'static', 'dns', 'dns-round-robin')),
  subjectAltNames: f.get('subjectAltNames', list(text)),
}));

export const decodeService: Decoder<Service> = object((f) => ({
  name: f.get('name', text),
  namespace: f.get('namespace', text),
  hostname: f.get('hostname', hostname),
  vips: f.get('vips', list(ip)),
  ipFamilies: f.get('ipFamilies', list(oneOf('IPv4', 'IPv6'))),
  ports: f.get(
    'ports',
    list(
      object((p) => ({
        name: p.get('name', text),
        port: p.get('port', port),
        appProtocol: p.get('appProtocol', text),
      })),
    ),
  ),
  loadBalancing: f.get('loadBalancing', loadBalancing),
  publishNotReady: f.get('publishNotReady', boolean),
  ...f.optional('waypoint', waypoint),
  withoutWaypoint: f.get('withoutWaypoint', oneOf('refuse', 'direct')),
  ...f.optional('entry', serviceEntry),
  ...f.optional('visibleTo', list(text)),
}));

const pattern: Decoder<StringPattern> = object((f): StringPattern => {
  const kind = f.get('kind', oneOf('exact', 'prefix', 'suffix', 'template', 'presence'));
  return kind === 'presence' ? { kind } : { kind, value: f.get('value', text) };
});

export const cidr: Decoder<Cidr> = object((f) => {
  const written = `${f.get('ip', text)}/${f.get('prefixLength', integer)}`;
  return parsed(text, parseCidr)(written, 'ip');
});

const requestAttribute: Decoder<RequestAttribute> = object((f): RequestAttribute => {
  const kinds = [
    'host',
    'method',
    'path',
    'requestPrincipal',
    'audiences',
    'presenter',
    'header',
    'claim',
  ] as const;
  const kind = f.get('kind', oneOf(...kinds));
  if (kind === 'header') return { kind, name: f.get('name', text) };
  if (kind === 'claim') return { kind, path: f.get('path', list(text)) };
  return { kind };
});

const match: Decoder<Match> = union<Match>('kind', {
  connection: object((f) => ({
    kind: 'connection',
    attribute: f.get(
      'attribute',
      oneOf('source.principal', 'source.namespace', 'source.serviceAccount', 'connection.sni'),
    ),
    values: f.get('values', list(pattern)),
    notValues: f.get('notValues', list(pattern)),
  })),
  address: object((f) => ({
    kind: 'address',
    attribute: f.get('attribute', oneOf('source.ip', 'remote.ip', 'destination.ip')),
    values: f.get('values', list(cidr)),
    notValues: f.get('notValues', list(cidr)),
  })),
  port: object((f) => ({
    kind: 'port',
    attribute: f.get('attribute', oneOf('destination.port')),
    values: f.get('values', list(port)),
    notValues: f.get('notValues', list(port)),
  })),
  request: object((f) => ({
    kind: 'request',
    attribute: f.get('attribute', requestAttribute),
    values: f.get('values', list(pattern)),
    notValues: f.get('notValues', list(pattern)),
  })),
});

export const policyTarget: Decoder<PolicyTarget> = union<PolicyTarget>('kind', {
  service: object((f) => ({ kind: 'service', service: f.get('service', branded<ServiceKey>()) })),
  gateway: object((f) => ({
    kind: 'gateway',
    namespace: f.get('namespace', text),
    name: f.get('name', text),
  })),
  'service-entry': object((f) => ({
    kind: 'service-entry',
    namespace: f.get('namespace', text),
    name: f.get('name', text),
  })),
  'gateway-class': object((f) => ({ kind: 'gateway-class', name: f.get('name', text) })),
});

const scope: Decoder<PolicyScope> = union<PolicyScope>('kind', {
  mesh: object(() => ({ kind: 'mesh' })),
  namespace: object(() => ({ kind: 'namespace' })),
  selected: object(() => ({ kind: 'selected' })),
  targeted: object((f) => ({ kind: 'targeted', targets: f.get('targets', list(policyTarget)) })),
});

export const clause: Decoder<Clause> = list(match);

const rule: Decoder<Rule> = object((f) => ({
  from: f.get('from', list(clause)),
  to: f.get('to', list(clause)),
  when: f.get('when', clause),
}));

export const decodePolicy: Decoder<AuthorizationPolicy> = object((f) => ({
  name: f.get('name', text),
  namespace: f.get('namespace', text),
  action: f.get('action', oneOf('ALLOW', 'DENY', 'AUDIT', 'CUSTOM')),
  ...f.optional('provider', text),
  scope: f.get('scope', scope),
  dryRun: f.get('dryRun', boolean),
  rules: f.get('rules', list(rule)),
}));
