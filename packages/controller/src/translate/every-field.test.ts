import { describe, expect, test } from '@jest/globals';
import type { Port, Service } from '@ambit/api';
import { aService } from '@ambit/testkit';

import { decoded } from '../../test/records.ts';
import { decodeDestinationRule, decodeVirtualService } from '../kube/decode/configuration.ts';
import { decodeMetadata } from '../kube/decode/fields.ts';
import type { JsonSchema, ResourceDefinition } from '../resources/crd.ts';
import { crdOf, refusedFields, schemaProblems } from '../resources/crd.ts';
import {
  grpcRouteResource,
  httpRouteResource,
  tcpRouteResource,
  tlsRouteResource,
} from '../resources/gateway-api.ts';
import { destinationRuleResource } from '../resources/destination-rule.ts';
import { virtualServiceResource } from '../resources/virtual-service.ts';
import { compileDestinationRule, mergeDestinationRules } from './destination-rule.ts';
import type { AnyGatewayRoute } from './gateway-route.ts';
import { compileGatewayRoute } from './gateway-route.ts';
import { regexProblem } from './regex.ts';
import { compileVirtualService } from './virtual-service.ts';

/**
 * Every field of a schema changes what is compiled, or is told: each is set alone, beside what it needs, and the
 * outcome is compared with that of the same object without it.
 */

interface Leaf {
  readonly path: readonly string[];
  readonly schema: JsonSchema;
}

function leavesOf(schema: JsonSchema, path: readonly string[]): Leaf[] {
  if (schema.properties !== undefined) {
    return Object.entries(schema.properties).flatMap(([name, one]) =>
      leavesOf(one, [...path, name]),
    );
  }
  if (schema.items !== undefined) return leavesOf(schema.items, [...path, '[]']);
  if (schema.additionalProperties !== undefined) {
    return leavesOf(schema.additionalProperties, [...path, '{}']);
  }
  return [{ path, schema }];
}

type Value = string | number | boolean | Value[] | { [name: string]: Value };

/** The value with a leaf set in the first item of each list; without one the leaf is taken away. */
function put(value: Value | undefined, path: readonly string[], leaf: Value | undefined): Value {
  const [step = '', ...rest] = path;
  if (step === '[]') {
    const [first, ...more] = Array.isArray(value) ? value : [];
    if (rest.length === 0) return leaf === undefined ? [] : [leaf];
    return [put(first, rest, leaf), ...more];
  }
  const name = step === '{}' ? 'x-key' : step;
  const own = typeof value === 'object' && !Array.isArray(value) ? value : {};
  const inner = rest.length === 0 ? leaf : put(own[name], rest, leaf);
  const others = Object.fromEntries(Object.entries(own).filter(([one]) => one !== name));
  return inner === undefined ? others : { ...others, [name]: inner };
}

function nameOf(path: readonly string[]): string {
  return path.join('.').replaceAll('.[]', '[]').replaceAll('.{}', '{}');
}

type Samples = readonly (readonly [end: RegExp, value: Value])[];
type Contexts = readonly (readonly [start: RegExp, spec: Value])[];

function sampleOf({ path, schema }: Leaf, samples: Samples): Value {
  const found = samples.find(([end]) => end.test(nameOf(path)));
  if (found !== undefined) return found[1];
  if (schema.enum !== undefined) return schema.enum.at(-1) ?? '';
  if (schema.type === 'boolean') return true;
  return schema.type === 'integer' || schema.type === 'number' ? 42 : 'sample';
}

/** Whether only the field around it is looked at, because that is refused: whole fields are tested by themselves. */
function isRefusedAround(name: string, { refusedInPart }: ResourceDefinition): boolean {
  const paths = [...(refusedInPart?.keys() ?? [])];
  return paths.some((path) => name === path || name.startsWith(`${path}.`));
}

/** The fields that have no effect and are not told. */
function idle(
  resource: ResourceDefinition,
  compile: (spec: Value) => unknown,
  base: Value,
  contexts: Contexts,
  samples: Samples,
): string[] {
  const spec = crdOf(resource).spec.versions[0]?.schema.openAPIV3Schema.properties?.['spec'];
  return leavesOf(spec ?? {}, []).flatMap((leaf) => {
    const name = nameOf(leaf.path);
    if (isRefusedAround(name, resource)) return [];
    const around = contexts.find(([start]) => start.test(name))?.[1] ?? base;
    const bare = put(around, leaf.path, undefined);
    // What must be there is compared with another value of it.
    const without = schemaProblems(resource, bare).length > 0 ? around : bare;
    const with_ = put(around, leaf.path, sampleOf(leaf, samples));
    if (refusedFields(resource, with_).length > 0) return [];
    const broken = schemaProblems(resource, with_);
    if (broken.length > 0) throw new TypeError(`${name}: ${JSON.stringify(broken)}`);
    return JSON.stringify(compile(with_)) === JSON.stringify(compile(without)) ? [name] : [];
  });
}

describe('VirtualService', () => {
  const destination = { host: 'reviews', port: { number: 80 } };
  const base: Value = { hosts: ['reviews'], http: [{ route: [{ destination }] }] };
  const http = (route: Value): Value => ({
    hosts: ['reviews'],
    http: [{ route: [{ destination }], ...(route as object) }],
  });
  const contexts: Contexts = [
    [/^http\[\]\.redirect/, { hosts: ['reviews'], http: [{ redirect: { uri: '/x' } }] }],
    [
      /^http\[\]\.directResponse/,
      { hosts: ['reviews'], http: [{ directResponse: { status: 200 } }] },
    ],
    [/^http\[\]\.delegate/, { hosts: ['reviews'], http: [{ delegate: { name: 'inner' } }] }],
    [/^http\[\]\.fault\.delay/, http({ fault: { delay: { fixedDelay: '1s' } } })],
    [/^http\[\]\.fault\.abort/, http({ fault: { abort: { httpStatus: 500 } } })],
    [/^http\[\]\.mirrors/, http({ mirrors: [{ destination }] })],
    [/^http\[\]\.mirror/, http({ mirror: destination })],
    [/^http\[\]\.rewrite\.uriRegex/, http({ rewrite: { uriRegexRewrite: { match: 'a' } } })],
    [/^http\[\]\.retries/, http({ retries: { attempts: 2, retryOn: '5xx' } })],
    [
      /^tls/,
      { hosts: ['reviews'], tls: [{ match: [{ sniHosts: ['a'] }], route: [{ destination }] }] },
    ],
    [/^tcp/, { hosts: ['reviews'], tcp: [{ route: [{ destination }] }] }],
  ];
  const samples: Samples = [
    [/\.host$/, 'cart'],
    [/hosts\[\]$/, 'cart'],
    [/gateways\[\]$/, 'elsewhere'],
    [/port(?:\.number)?$/, 8080],
    [/subset$/, 'v1'],
    [/(?:timeout|Timeout|backoff|fixedDelay|maxAge)$/, '7s'],
    [/attempts$/, 7],
    [/retryOn$/, 'connect-failure'],
    [/redirectCode$/, 308],
    [/directResponse\.status$/, 418],
    [/grpcStatus$/, 'ABORTED'],
    [/httpStatus$/, 418],
    [/destinationSubnets\[\]$/, '10.0.0.0/8'],
    [/uri(?:RegexRewrite\.rewrite)?$/, '/sample'],
    [/retryIgnorePreviousHosts$/, false],
    [/body\.bytes$/, 'c2FtcGxl'],
    [/delegate\.name(?:space)?$/, 'other'],
    [/unmatchedPreflights$/, 'IGNORE'],
  ];

  test('no field is dropped in silence', () => {
    const world = {
      clusterDomain: 'cluster.local',
      rootNamespace: 'istio-system',
      ports: () => [80, 8080] as Port[],
      hasSubset: (_service: unknown, name: unknown) => name === 'v1',
      delegate: (namespace: string, name: string) =>
        name === ''
          ? undefined
          : decoded(decodeVirtualService, {
              metadata: { name, namespace },
              spec: { http: [{ name: `${namespace}-${name}`, route: [{ destination }] }] },
            }),
      regexProblem,
      insteadOf: () => undefined,
    };
    const compile = (spec: Value): unknown =>
      compileVirtualService(
        decoded(decodeVirtualService, { metadata: { name: 'vs', namespace: 'shop' }, spec }),
        world,
      );
    // A match's name is for who reads the manifest.
    expect(idle(virtualServiceResource, compile, base, contexts, samples)).toEqual([
      'http[].match[].name',
    ]);
  });
});

describe('DestinationRule', () => {
  const base: Value = { host: 'reviews' };
  const ofPort = (settings: object): Value => ({
    portLevelSettings: [{ port: { number: 80 }, ...settings }],
  });
  const ofSubset = (trafficPolicy: Value): Value => ({
    host: 'reviews',
    subsets: [{ name: 'v1', trafficPolicy }],
  });
  const places: readonly (readonly [start: string, around: (settings: object) => Value])[] = [
    ['trafficPolicy.portLevelSettings[].', (one) => ({ ...base, trafficPolicy: ofPort(one) })],
    ['trafficPolicy.', (one) => ({ ...base, trafficPolicy: { ...one } })],
    ['subsets[].trafficPolicy.portLevelSettings[].', (one) => ofSubset(ofPort(one))],
    ['subsets[].trafficPolicy.', (one) => ofSubset({ ...one })],
    ['subsets[].', () => ofSubset({})],
  ];
  const byHeader = { consistentHash: { httpHeaderName: 'a' } };
  const files = { mode: 'MUTUAL', clientCertificate: '/c', privateKey: '/k' };
  const settings: readonly (readonly [start: string, one: object])[] = [
    [
      'loadBalancer.consistentHash.httpCookie',
      {
        loadBalancer: {
          consistentHash: { httpCookie: { name: 'a', ttl: '1s', attributes: [{ name: 'b' }] } },
        },
      },
    ],
    ['loadBalancer.consistentHash.ringHash', { loadBalancer: byHeader }],
    ['loadBalancer.consistentHash.maglev', { loadBalancer: byHeader }],
    ['loadBalancer.consistentHash.minimumRingSize', { loadBalancer: byHeader }],
    [
      'loadBalancer.localityLbSetting.failover[]',
      { loadBalancer: { localityLbSetting: { failover: [{ from: 'a', to: 'b' }] } } },
    ],
    ['loadBalancer.warmup.', { loadBalancer: { warmup: { duration: '9s', aggression: 2 } } }],
    ['connectionPool.tcp.tcpKeepalive', { connectionPool: { tcp: { tcpKeepalive: {} } } }],
    ['tls.mode', {}],
    ['tls.clientCertificate', { tls: files }],
    ['tls.privateKey', { tls: files }],
    ['tls.caCertificates', { tls: files }],
    ['tls.caCrl', { tls: files }],
    ['tls.', { tls: { mode: 'SIMPLE' } }],
    ['', {}],
  ];
  const escaped = (text: string): string => text.replaceAll(/[.[\]]/g, '\\$&');
  const contexts: Contexts = places.flatMap(([place, around]) =>
    settings.map(
      ([start, one]) => [new RegExp(`^${escaped(place + start)}`), around(one)] as const,
    ),
  );
  const samples: Samples = [
    [/^host$/, 'cart'],
    [/tableSize$/, 7],
    [/loadBalancer\.simple$/, 'ROUND_ROBIN'],
    [/(?:[tT]imeout|[iI]nterval|time|[dD]uration|Time|ttl|warmupDurationSecs)$/, '7s'],
    [/(?:clientCertificate|privateKey|caCertificates|caCrl)$/, '/sample'],
    [/port\.number$/, 8080],
    [/localityLbSetting\.enabled$/, false],
  ];

  test('no field is dropped in silence', () => {
    const compile = (spec: Value): unknown => {
      const object = { metadata: { name: 'dr', namespace: 'shop' }, spec };
      const compiled = compileDestinationRule(
        decoded(decodeDestinationRule, object),
        'cluster.local',
      );
      const { service, exportedTo, problems } = compiled;
      return [service, exportedTo, problems, service && mergeDestinationRules(service, [compiled])];
    };
    expect(idle(destinationRuleResource, compile, base, contexts, samples)).toEqual([]);
  });
});

describe('routes of the Gateway API', () => {
  const service = (namespace: string, name: string): Service =>
    aService({
      name,
      namespace,
      vips: [],
      ports: [80, 8080].map((port) => ({ name: `p${port}`, port, appProtocol: '' })),
    });
  const world = {
    clusterDomain: 'cluster.local',
    waypoint: () => undefined,
    service,
    granted: () => false,
    regexProblem,
  };
  const backend = { name: 'web', port: 80 };
  const parent = { group: '', kind: 'Service', name: 'web' };
  const rule = (more: object = {}): Value => ({
    parentRefs: [parent],
    rules: [{ backendRefs: [backend], ...more }],
  });
  const filter = (type: string, body: string, value: object = {}): Value =>
    rule({ filters: [{ type, [body]: value }] });
  const changes = { set: [{ name: 'a', value: 'b' }], add: [{ name: 'a', value: 'b' }] };
  const place = { path: { type: 'ReplaceFullPath', replaceFullPath: '/' } };
  const inBackend = (body: string, type: string): Value => ({
    parentRefs: [parent],
    rules: [{ backendRefs: [{ ...backend, filters: [{ type, [body]: changes }] }] }],
  });
  const fraction = { backendRef: backend, fraction: { numerator: 1 } };
  const contexts: Contexts = [
    [
      /backendRefs\[\]\.filters\[\]\.request/,
      inBackend('requestHeaderModifier', 'RequestHeaderModifier'),
    ],
    [
      /backendRefs\[\]\.filters\[\]\./,
      inBackend('responseHeaderModifier', 'ResponseHeaderModifier'),
    ],
    [/requestMirror\.fraction/, filter('RequestMirror', 'requestMirror', fraction)],
    [/requestMirror/, filter('RequestMirror', 'requestMirror', { backendRef: backend })],
    [/requestRedirect/, filter('RequestRedirect', 'requestRedirect', place)],
    [/urlRewrite/, filter('URLRewrite', 'urlRewrite', place)],
    [/filters\[\]\.cors/, filter('CORS', 'cors')],
    [/filters\[\]\.type/, filter('RequestHeaderModifier', 'requestHeaderModifier', changes)],
    [/requestHeaderModifier/, filter('RequestHeaderModifier', 'requestHeaderModifier', changes)],
    [/responseHeaderModifier/, filter('ResponseHeaderModifier', 'responseHeaderModifier', changes)],
    [/^rules\[\]\.retry/, rule({ retry: { attempts: 2 } })],
    [/matches\[\]\.headers/, rule({ matches: [{ headers: [{ name: 'a', value: 'b' }] }] })],
    [/matches\[\]\.queryParams/, rule({ matches: [{ queryParams: [{ name: 'a', value: 'b' }] }] })],
    [/matches\[\]\.method\.type/, rule({ matches: [{ method: { service: 'a', method: 'b' } }] })],
  ];
  const samples: Samples = [
    [/(?:requestRedirect|urlRewrite)\.path\.type$/, 'ReplacePrefixMatch'],
    [/parentRefs\[\]\.kind$/, 'Service'],
    [/filters\[\]\.type$/, 'ExtensionRef'],
    [/path\.type$/, 'RegularExpression'],
    [/(?:headers|queryParams)\[\]\.type$/, 'RegularExpression'],
    [/method\.type$/, 'RegularExpression'],
    [/(?:fraction\.denominator)$/, 50],
    [/(?:port)$/, 8080],
    [/sectionName$/, 'p8080'],
    [/(?:timeouts\.\w+|backoff)$/, '7s'],
    [/codes\[\]$/, 503],
    [/statusCode$/, 301],
    [/scheme$/, 'https'],
    [/hostname(?:s\[\])?$/, 'sample.example'],
    [/path\.value$/, '/sample'],
    [/replace\w+$/, '/sample'],
    [/group$/, 'sample'],
    [/kind$/, 'Sample'],
    [/allowOrigins\[\]$/, 'https://sample.example'],
  ];
  const told = (resource: ResourceDefinition, kind: string): string[] => {
    const compile = (spec: Value): unknown => {
      const meta = decodeMetadata({ metadata: { name: 'r', namespace: 'shop' } })!;
      const record = { kind, meta, spec } as unknown as AnyGatewayRoute;
      return { ...compileGatewayRoute(record, world), spec: undefined };
    };
    return idle(resource, compile, rule(), contexts, samples);
  };

  const filterTypes: Readonly<Record<string, string>> = {
    requestMirror: 'RequestMirror',
    requestRedirect: 'RequestRedirect',
    urlRewrite: 'URLRewrite',
    cors: 'CORS',
    externalAuth: 'ExternalAuth',
    extensionRef: 'ExtensionRef',
  };
  const refusals = [httpRouteResource, grpcRouteResource, tcpRouteResource, tlsRouteResource];
  test.each(
    refusals.flatMap((resource) =>
      [...(resource.refusedInPart ?? [])].map(([path, why]) => [resource.kind, path, why] as const),
    ),
  )('%s: %s is told, as the page of compatibility has it', (kind, path, why) => {
    const steps = path.replaceAll('[]', '.[]').split('.');
    const type = filterTypes[steps.at(-1) ?? ''];
    const typed = type === undefined ? rule() : put(rule(), [...steps.slice(0, -1), 'type'], type);
    const meta = decodeMetadata({ metadata: { name: 'r', namespace: 'shop' } })!;
    const record = { kind, meta, spec: put(typed, steps, {}) } as unknown as AnyGatewayRoute;
    const { accepted } = compileGatewayRoute(record, world).parents[0]!;
    expect(accepted.status).toBe(path === 'useDefaultGateways');
    expect(accepted.message.replaceAll('[0]', '[]')).toContain(why);
  });

  test.each([
    ['HTTPRoute', httpRouteResource, []],
    ['GRPCRoute', grpcRouteResource, []],
    ['TCPRoute', tcpRouteResource, []],
    ['TLSRoute', tlsRouteResource, []],
  ] as const)('%s: no field is dropped in silence', (kind, resource, expected) => {
    expect(told(resource, kind)).toEqual(expected);
  });
});
