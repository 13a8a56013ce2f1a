import type { JwtRule, RequestAuthentication, TokenLocation } from './authentication.ts';
import type {
  Balancing,
  Cluster,
  HashKey,
  LocalityBalancing,
  OutlierDetection,
  PoolLimits,
  TlsSource,
  TrafficPolicy,
  TrafficSettings,
  UpstreamTls,
} from './cluster.ts';
import type { Credential } from './credential.ts';
import type { Decoder, Fields } from './decode.ts';
import { boolean, branded, integer, list, number, object, oneOf, text, union } from './decode.ts';
import { cidr, labels, policyTarget, port } from './decode-nouns.ts';
import type { Gateway } from './gateway.ts';
import type { ServiceKey } from './hostname.ts';
import type { SpiffeId } from './identity.ts';
import type {
  CorsPolicy,
  Fault,
  HeaderChanges,
  HttpAction,
  HttpMatch,
  HttpRoute,
  Mirror,
  NamedMatch,
  PathRewrite,
  Redirect,
  RetryPolicy,
  Rewrite,
  RouteTable,
  StringMatch,
  Target,
  TcpMatch,
  TcpRoute,
  TlsRoute,
  WeightedTarget,
} from './route.ts';
import { retryConditions } from './route.ts';

const service: Decoder<ServiceKey> = branded<ServiceKey>();

const stringMatch: Decoder<StringMatch> = object((f): StringMatch => {
  const kind = f.get('kind', oneOf('exact', 'prefix', 'path-prefix', 'regex', 'present'));
  return kind === 'present' ? { kind } : { kind, value: f.get('value', text) };
});

const namedMatches: Decoder<NamedMatch[]> = list(
  object((f) => ({ name: f.get('name', text), match: f.get('match', stringMatch) })),
);

function sourceMatch(f: Fields): Pick<HttpMatch, 'sourceLabels' | 'sourceNamespace' | 'port'> {
  return {
    sourceLabels: f.get('sourceLabels', labels),
    ...f.optional('sourceNamespace', text),
    ...f.optional('port', port),
  };
}

const httpMatch: Decoder<HttpMatch> = object((f) => ({
  ...sourceMatch(f),
  ...f.optional('path', stringMatch),
  ignorePathCase: f.get('ignorePathCase', boolean),
  ...f.optional('scheme', stringMatch),
  ...f.optional('method', stringMatch),
  ...f.optional('authority', stringMatch),
  headers: f.get('headers', namedMatches),
  withoutHeaders: f.get('withoutHeaders', namedMatches),
  query: f.get('query', namedMatches),
}));

const formats: Decoder<NonNullable<HeaderChanges['formats']>> = object((f) => ({
  set: f.get('set', labels),
  add: f.get('add', labels),
}));

const changes: Decoder<HeaderChanges> = object((f) => ({
  remove: f.get('remove', list(text)),
  set: f.get('set', labels),
  add: f.get('add', labels),
  ...f.optional('formats', formats),
}));

const target: Decoder<Target> = union<Target>('kind', {
  service: object((f) => ({
    kind: 'service',
    service: f.get('service', service),
    port: f.get('port', port),
    ...f.optional('subset', text),
  })),
  missing: object((f) => ({ kind: 'missing', why: f.get('why', text) })),
});

const weightedTargets: Decoder<WeightedTarget[]> = list(
  object((f) => ({
    weight: f.get('weight', integer),
    target: f.get('target', target),
    request: f.get('request', changes),
    response: f.get('response', changes),
  })),
);

const pathRewrite: Decoder<PathRewrite> = union<PathRewrite>('kind', {
  prefix: object((f) => ({
    kind: 'prefix',
    matched: f.get('matched', text),
    value: f.get('value', text),
  })),
  full: object((f) => ({ kind: 'full', value: f.get('value', text) })),
  regex: object((f) => ({
    kind: 'regex',
    match: f.get('match', text),
    rewrite: f.get('rewrite', text),
  })),
});

const rewrite: Decoder<Rewrite> = object((f) => ({
  ...f.optional('path', pathRewrite),
  ...f.optional('authority', text),
}));

const redirect: Decoder<Redirect> = object((f) => ({
  ...f.optional('scheme', text),
  ...f.optional('authority', text),
  ...f.optional('port', port),
  ...f.optional('derivePort', oneOf('from-protocol', 'from-request')),
  ...f.optional('path', pathRewrite),
  status: f.get('status', integer),
}));

const action: Decoder<HttpAction> = union<HttpAction>('kind', {
  forward: object((f) => ({
    kind: 'forward',
    targets: f.get('targets', weightedTargets),
    rewrite: f.get('rewrite', rewrite),
  })),
  redirect: object((f) => ({ kind: 'redirect', redirect: f.get('redirect', redirect) })),
  respond: object((f) => ({
    kind: 'respond',
    status: f.get('status', integer),
    body: f.get('body', text),
    ...f.optional('encoding', oneOf('base64')),
    contentType: f.get('contentType', text),
  })),
});

const retry: Decoder<RetryPolicy> = object((f) => ({
  attempts: f.get('attempts', integer),
  ...f.optional('perTryTimeoutMs', number),
  on: f.get('on', list(oneOf(...retryConditions))),
  statuses: f.get('statuses', list(integer)),
  backoffMs: f.get('backoffMs', number),
  maxBackoffMs: f.get('maxBackoffMs', number),
  remoteLocalities: f.get('remoteLocalities', boolean),
  ignorePreviousHosts: f.get('ignorePreviousHosts', boolean),
  evenIfNotIdempotent: f.get('evenIfNotIdempotent', boolean),
}));

const fault: Decoder<Fault> = object((f) => ({
  ...f.optional(
    'delay',
    object((d) => ({ percentage: d.get('percentage', number), ms: d.get('ms', number) })),
  ),
  ...f.optional(
    'abort',
    object((a) => ({
      percentage: a.get('percentage', number),
      status: a.get('status', integer),
      ...a.optional('grpcStatus', integer),
    })),
  ),
}));

const mirrors: Decoder<Mirror[]> = list(
  object((f) => ({ target: f.get('target', target), percentage: f.get('percentage', number) })),
);

const cors: Decoder<CorsPolicy> = object((f) => ({
  allowOrigins: f.get('allowOrigins', list(stringMatch)),
  allowMethods: f.get('allowMethods', list(text)),
  allowHeaders: f.get('allowHeaders', list(text)),
  exposeHeaders: f.get('exposeHeaders', list(text)),
  ...f.optional('maxAgeSeconds', number),
  allowCredentials: f.get('allowCredentials', boolean),
  forwardUnmatchedPreflights: f.get('forwardUnmatchedPreflights', boolean),
}));

const httpRoute: Decoder<HttpRoute> = object((f) => ({
  name: f.get('name', text),
  matches: f.get('matches', list(httpMatch)),
  action: f.get('action', action),
  request: f.get('request', changes),
  response: f.get('response', changes),
  ...f.optional('timeoutMs', number),
  ...f.optional('retry', retry),
  fault: f.get('fault', fault),
  mirrors: f.get('mirrors', mirrors),
  ...f.optional('cors', cors),
  ...f.optional('unsure', boolean),
  ...f.optional('object', text),
}));

function tcpMatch(f: Fields): TcpMatch {
  return { ...sourceMatch(f), destinationSubnets: f.get('destinationSubnets', list(cidr)) };
}

const tcpRoute: Decoder<TcpRoute> = object((f) => ({
  name: f.get('name', text),
  matches: f.get('matches', list(object(tcpMatch))),
  targets: f.get('targets', weightedTargets),
}));

const tlsRoute: Decoder<TlsRoute> = object((f) => ({
  name: f.get('name', text),
  matches: f.get(
    'matches',
    list(object((m) => ({ ...tcpMatch(m), sniHosts: m.get('sniHosts', list(text)) }))),
  ),
  targets: f.get('targets', weightedTargets),
}));

export const decodeRouteTable: Decoder<RouteTable> = object((f) => ({
  service: f.get('service', service),
  http: f.get('http', list(httpRoute)),
  tls: f.get('tls', list(tlsRoute)),
  tcp: f.get('tcp', list(tcpRoute)),
}));

const hashKey: Decoder<HashKey> = object((f): HashKey => {
  const kind = f.get('kind', oneOf('header', 'query', 'cookie', 'source-ip'));
  if (kind === 'source-ip') return { kind };
  const name = f.get('name', text);
  if (kind !== 'cookie') return { kind, name };
  return {
    kind,
    name,
    path: f.get('path', text),
    ...f.optional('ttlSeconds', number),
    ...f.optional('attributes', labels),
  };
});

const balancing: Decoder<Balancing> = object((f): Balancing => {
  const kinds = [
    'round-robin',
    'least-request',
    'random',
    'passthrough',
    'ring-hash',
    'maglev',
  ] as const;
  const kind = f.get('kind', oneOf(...kinds));
  switch (kind) {
    case 'ring-hash':
      return {
        kind,
        key: f.get('key', hashKey),
        minimumRingSize: f.get('minimumRingSize', integer),
      };
    case 'maglev':
      return { kind, key: f.get('key', hashKey), tableSize: f.get('tableSize', integer) };
    default:
      return { kind };
  }
});

const locality: Decoder<LocalityBalancing> = object((f) => ({
  enabled: f.get('enabled', boolean),
  distribute: f.get(
    'distribute',
    list(
      object((d) => ({
        from: d.get('from', text),
        to: d.get(
          'to',
          list((value, path) => {
            const [name, weight] = list((one) => one)(value, path);
            return [text(name, `${path}[0]`), number(weight, `${path}[1]`)] as const;
          }),
        ),
      })),
    ),
  ),
  failover: f.get(
    'failover',
    list(object((o) => ({ from: o.get('from', text), to: o.get('to', text) }))),
  ),
  failoverPriority: f.get('failoverPriority', list(text)),
}));

const pool: Decoder<PoolLimits> = object((f) => ({
  ...f.optional('maxConnections', integer),
  connectTimeoutMs: f.get('connectTimeoutMs', number),
  ...f.optional('maxPendingRequests', integer),
  ...f.optional('maxRequests', integer),
  ...f.optional('maxRequestsPerConnection', integer),
  ...f.optional('maxRetries', integer),
  idleTimeoutMs: f.get('idleTimeoutMs', number),
  ...f.optional('tcpIdleTimeoutMs', number),
  ...f.optional('maxConnectionDurationMs', number),
  ...f.optional(
    'keepalive',
    object((k) => ({
      ...k.optional('timeMs', number),
      ...k.optional('intervalMs', number),
      ...k.optional('probes', integer),
    })),
  ),
  h2Upgrade: f.get('h2Upgrade', oneOf('default', 'upgrade', 'do-not-upgrade')),
  useClientProtocol: f.get('useClientProtocol', boolean),
  ...f.optional('maxConcurrentStreams', integer),
}));

const outlier: Decoder<OutlierDetection> = object((f) => ({
  consecutive5xx: f.get('consecutive5xx', integer),
  consecutiveGatewayErrors: f.get('consecutiveGatewayErrors', integer),
  consecutiveLocalOrigin: f.get('consecutiveLocalOrigin', integer),
  splitExternalLocalOrigin: f.get('splitExternalLocalOrigin', boolean),
  intervalMs: f.get('intervalMs', number),
  baseEjectionMs: f.get('baseEjectionMs', number),
  maxEjectionPercent: f.get('maxEjectionPercent', number),
  minHealthPercent: f.get('minHealthPercent', number),
}));

const tlsSource: Decoder<TlsSource> = union<TlsSource>('kind', {
  credential: object((f) => ({ kind: 'credential', name: f.get('name', text) })),
  files: object((f) => ({
    kind: 'files',
    ...f.optional('ca', text),
    ...f.optional('certificate', text),
    ...f.optional('privateKey', text),
    ...f.optional('crl', text),
  })),
});

const tls: Decoder<UpstreamTls> = object((f): UpstreamTls => {
  const mode = f.get('mode', oneOf('disable', 'istio-mutual', 'simple', 'mutual', 'broken'));
  if (mode === 'disable') return { mode };
  if (mode === 'broken') return { mode, why: f.get('why', text) };
  const names = {
    ...f.optional('sni', text),
    subjectAltNames: f.get('subjectAltNames', list(text)),
  };
  if (mode === 'istio-mutual') return { mode, ...names };
  return {
    mode,
    ...names,
    source: f.get('source', tlsSource),
    insecureSkipVerify: f.get('insecureSkipVerify', boolean),
  };
});

export const decodeCredential: Decoder<Credential> = object((f) => ({
  name: f.get('name', text),
  namespace: f.get('namespace', text),
  ...f.optional('certificate', text),
  ...f.optional('privateKey', text),
  ...f.optional('ca', text),
  ...f.optional('crl', text),
}));

function settings(f: Fields): TrafficSettings {
  return {
    balancing: f.get('balancing', balancing),
    locality: f.get('locality', locality),
    ...f.optional(
      'warmup',
      object((w) => ({
        durationMs: w.get('durationMs', number),
        minimumPercent: w.get('minimumPercent', number),
        aggression: w.get('aggression', number),
      })),
    ),
    pool: f.get('pool', pool),
    ...f.optional('outlier', outlier),
    ...f.optional('tls', tls),
    ...f.optional('proxyProtocol', oneOf('v1', 'v2')),
    ...f.optional(
      'retryBudget',
      object((b) => ({
        percent: b.get('percent', number),
        minRetryConcurrency: b.get('minRetryConcurrency', integer),
      })),
    ),
  };
}

const policy: Decoder<TrafficPolicy> = object((f) => ({
  ...settings(f),
  ports: f.get(
    'ports',
    list(
      object((p) => ({ port: p.get('port', port), settings: p.get('settings', object(settings)) })),
    ),
  ),
}));

export const decodeCluster: Decoder<Cluster> = object((f) => ({
  service: f.get('service', service),
  policy: f.get('policy', policy),
  subsets: f.get(
    'subsets',
    list(
      object((s) => ({
        name: s.get('name', text),
        labels: s.get('labels', labels),
        policy: s.get('policy', policy),
      })),
    ),
  ),
  ...f.optional(
    'healthCheck',
    object((h) => ({
      path: h.get('path', text),
      ...h.optional('port', port),
      intervalMs: h.get('intervalMs', number),
      timeoutMs: h.get('timeoutMs', number),
      unhealthyThreshold: h.get('unhealthyThreshold', integer),
      healthyThreshold: h.get('healthyThreshold', integer),
    })),
  ),
}));

const tokenLocation: Decoder<TokenLocation> = object((f): TokenLocation => {
  const kind = f.get('kind', oneOf('header', 'query', 'cookie'));
  const name = f.get('name', text);
  return kind === 'header' ? { kind, name, prefix: f.get('prefix', text) } : { kind, name };
});

const keys: Decoder<JwtRule['keys']> = union<JwtRule['keys']>('kind', {
  inline: object((f) => ({ kind: 'inline', jwks: f.get('jwks', text) })),
  remote: object((f) => ({
    kind: 'remote',
    uri: f.get('uri', text),
    timeoutMs: f.get('timeoutMs', number),
  })),
  none: object((f) => ({ kind: 'none', why: f.get('why', text) })),
});

const jwtRule: Decoder<JwtRule> = object((f) => ({
  issuer: f.get('issuer', text),
  audiences: f.get('audiences', list(text)),
  keys: f.get('keys', keys),
  from: f.get('from', list(tokenLocation)),
  forwardOriginalToken: f.get('forwardOriginalToken', boolean),
  spaceDelimitedClaims: f.get('spaceDelimitedClaims', list(text)),
  ...f.optional('outputPayloadToHeader', text),
  outputClaimsToHeaders: f.get(
    'outputClaimsToHeaders',
    list(object((c) => ({ header: c.get('header', text), claim: c.get('claim', list(text)) }))),
  ),
}));

export const decodeAuthentication: Decoder<RequestAuthentication> = object((f) => ({
  name: f.get('name', text),
  namespace: f.get('namespace', text),
  targets: f.get('targets', list(policyTarget)),
  rules: f.get('rules', list(jwtRule)),
  broken: f.get('broken', boolean),
}));

export const decodeGateway: Decoder<Gateway> = object((f) => ({
  name: f.get('name', text),
  namespace: f.get('namespace', text),
  className: f.get('className', text),
  waypointFor: f.get('waypointFor', oneOf('service', 'workload', 'all', 'none')),
  identity: f.get('identity', branded<SpiffeId>()),
  service: f.get('service', service),
  xfccClientIdentity: f.get('xfccClientIdentity', boolean),
  trustedForwarders: f.get('trustedForwarders', list(branded<SpiffeId>())),
}));
