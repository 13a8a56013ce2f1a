import { describe, expect, test } from '@jest/globals';
import { parse } from 'yaml';

import { createMeshConfigDecoder } from '../kube/decode/mesh-config.ts';
import { decodeMetadata } from '../kube/decode/fields.ts';
import type { MeshConfig } from './mesh-config.ts';
import { compileMeshConfig, defaultMeshConfig } from './mesh-config.ts';

function compiled(yaml: string, last?: MeshConfig): MeshConfig {
  return compileMeshConfig(parse(yaml) ?? {}, 'ConfigMap istio-system/istio', last);
}

function told({ problems }: MeshConfig): readonly string[] {
  return problems.map(({ field, message }) => `${field}: ${message}`);
}

function provider(config: MeshConfig, name: string): unknown {
  return config.providers.find((one) => one.name === name);
}

describe('the mesh configuration', () => {
  test('an empty one is what holds without any', () => {
    expect(compiled('')).toEqual(defaultMeshConfig);
  });

  test('external authorizers over HTTP and gRPC, as Istio users write them', () => {
    const config = compiled(`
extensionProviders:
- name: ext-http
  envoyExtAuthzHttp:
    service: foo/ext-authz.foo.svc.cluster.local
    port: 8000
    timeout: 1.5s
    pathPrefix: /check
    includeRequestHeadersInCheck: [X-Ext-Authz, x-team-*]
    includeAdditionalHeadersInCheck: { x-from: waypoint }
    headersToUpstreamOnAllow: [authorization]
    headersToDownstreamOnDeny: [set-cookie]
    includeRequestBodyInCheck: { maxRequestBytes: 1024, allowPartialMessage: true }
- name: ext-grpc
  envoyExtAuthzGrpc: { service: ext-authz.foo.svc.cluster.local, port: "9000", failOpen: true, statusOnError: "503" }
`);
    expect(provider(config, 'ext-http')).toEqual({
      kind: 'ext-authz-http',
      name: 'ext-http',
      address: { namespace: 'foo', host: 'ext-authz.foo.svc.cluster.local', port: 8000 },
      timeoutMs: 1500,
      failOpen: false,
      statusOnError: 403,
      pathPrefix: '/check',
      includeRequestHeaders: ['x-ext-authz', 'x-team-*'],
      additionalHeaders: [['x-from', 'waypoint']],
      headersToUpstreamOnAllow: ['authorization'],
      headersToDownstreamOnDeny: ['set-cookie'],
      headersToDownstreamOnAllow: [],
      body: { maxBytes: 1024, allowPartial: true, packAsBytes: false },
    });
    expect(told(config)).toEqual([
      'data.mesh: extensionProviders[1].envoyExtAuthzGrpc.port: must be integer',
    ]);
    const mended = compiled(`
extensionProviders:
- name: ext-grpc
  envoyExtAuthzGrpc: { service: ext-authz.foo.svc.cluster.local, port: 9000, failOpen: true, statusOnError: "503" }
`);
    expect(provider(mended, 'ext-grpc')).toEqual({
      kind: 'ext-authz-grpc',
      name: 'ext-grpc',
      address: { host: 'ext-authz.foo.svc.cluster.local', port: 9000 },
      timeoutMs: 600_000,
      failOpen: true,
      statusOnError: 503,
    });
  });

  test('telemetry: collectors, logs in every form, default providers and sampling', () => {
    const config = compiled(`
accessLogFile: /dev/stderr
accessLogEncoding: JSON
accessLogFormat: '{"code": "%RESPONSE_CODE%"}'
defaultConfig: { discoveryAddress: "istiod:15012", tracing: { sampling: 42.5 } }
defaultProviders: { tracing: [otel] }
extensionProviders:
- name: otel
  opentelemetry: { service: otel.observability.svc.cluster.local, port: 4318, http: { path: /v1/traces, timeout: 3s, headers: [{ name: X-Key, value: k }] } }
- name: zip
  zipkin: { service: zipkin.istio-system.svc.cluster.local, port: 9411, maxTagLength: 99 }
- name: text
  envoyFileAccessLog: { path: /dev/stdout, logFormat: { text: "%PROTOCOL%" } }
- name: labels
  envoyFileAccessLog: { logFormat: { labels: { status: "%RESPONSE_CODE%" } } }
`);
    expect(told(config)).toEqual([]);
    expect(config.traceSamplingPercent).toBe(42.5);
    expect(config.defaultProviders).toEqual({
      metrics: ['prometheus'],
      accessLogging: ['envoy'],
      tracing: ['otel'],
    });
    expect(provider(config, 'envoy')).toMatchObject({
      path: '/dev/stderr',
      format: { kind: 'json', fields: [['code', '%RESPONSE_CODE%']] },
    });
    expect(provider(config, 'otel')).toMatchObject({
      http: { path: '/v1/traces', timeoutMs: 3000, headers: [['x-key', 'k']] },
      maxTagLength: 256,
    });
    expect(provider(config, 'zip')).toMatchObject({ path: '/api/v2/spans', maxTagLength: 99 });
    expect(provider(config, 'text')).toMatchObject({
      format: { kind: 'text', text: '%PROTOCOL%\n' },
    });
    expect(provider(config, 'labels')).toMatchObject({
      path: '/dev/stdout',
      format: { kind: 'json', fields: [['status', '%RESPONSE_CODE%']] },
    });
  });

  test('an access log that is switched off stays off', () => {
    expect(compiled('accessLogFile: ""').defaultProviders.accessLogging).toEqual([]);
  });

  test('tracing by the older fields', () => {
    const config = compiled(
      'enableTracing: true\ndefaultConfig: { tracing: { zipkin: { address: "zipkin.istio-system:9411" } } }',
    );
    expect(config.defaultProviders.tracing).toEqual(['zipkin']);
    expect(provider(config, 'zipkin')).toMatchObject({
      address: { host: 'zipkin.istio-system', port: 9411 },
    });
  });

  test('of a part that is wrong the last good one stays, and the rest is taken', () => {
    const good = compiled(`
defaultConfig: { tracing: { sampling: 7 } }
extensionProviders: [{ name: a, envoyExtAuthzGrpc: { service: a.example, port: 1 } }]
`);
    const next = compiled(
      `
accessLogFile: ""
defaultConfig: { tracing: { sampling: 700 } }
extensionProviders:
- { name: a, envoyExtAuthzGrpc: { service: "not a host", port: 1, timeout: soon } }
- { name: b, envoyExtAuthzGrpc: { service: b.example, port: 2 } }
- { name: never-good, envoyExtAuthzGrpc: { service: c.example, port: 70000 } }
- { name: other, lightstep: {} }
`,
      good,
    );
    expect(provider(next, 'a')).toEqual(provider(good, 'a'));
    expect(provider(next, 'b')).toBeDefined();
    expect(provider(next, 'never-good')).toBeUndefined();
    expect(next.traceSamplingPercent).toBe(7);
    expect(next.defaultProviders.accessLogging).toEqual([]);
    expect(told(next).join('\n')).toMatch(/extensionProviders\[0\]\.envoyExtAuthzGrpc\.timeout/);
    expect(told(next).join('\n')).toMatch(/sampling/);
    expect(told(next).join('\n')).toMatch(/extensionProviders\[3\]: must have exactly one of/);
  });

  test.each([
    ['pathNormalization: { normalization: NONE }', /NONE would let a policy be passed by/],
    ['outboundTrafficPolicy: { mode: REGISTRY_ONLY }', /outboundTrafficPolicy: is not read/],
    ['defaultProviders: { tracing: [nobody] }', /no provider is called "nobody"/],
    ['defaultProviders: 5', /defaultProviders: must be object/],
    ['extensionProviders: {}', /must be a list/],
    ['accessLogEncoding: XML', /accessLogEncoding: must be one of TEXT, JSON/],
    ['accessLogEncoding: JSON\naccessLogFormat: "{"', /must be a JSON object of texts/],
    ['accessLogFormat: "%NO_SUCH%"', /accessLogFormat: cannot be used: unknown operator NO_SUCH/],
    [
      'accessLogEncoding: JSON\naccessLogFormat: \'{"a": "%NO_SUCH%"}\'',
      /accessLogFormat: cannot be used: a: unknown operator NO_SUCH/,
    ],
    [
      'extensionProviders: [{ name: x, envoyFileAccessLog: { logFormat: { text: "%NO_SUCH%" } } }]',
      /logFormat: cannot be used: unknown operator NO_SUCH/,
    ],
    ['enableTracing: sure', /enableTracing: must be boolean/],
    [
      'extensionProviders: [{ name: x, envoyExtAuthzHttp: { service: a.b, port: 1, includeRequestBodyInCheck: { maxRequestBytes: 99999999 } } }]',
      /maxRequestBytes: must be from 1 to/,
    ],
    [
      'extensionProviders: [{ name: x, envoyExtAuthzHttp: { service: a.b, port: 1, includeAdditionalHeadersInCheck: { "a b": c } } }]',
      /no field that can be sent/,
    ],
  ])('%s is told', (yaml, problem) => {
    expect(told(compiled(yaml)).join('\n')).toMatch(problem);
  });

  test.each([
    ['no YAML', ': :\n- {'],
    ['the same key twice', 'accessLogFile: a\naccessLogFile: b'],
    ['a list', '[1]'],
    [
      'aliases of aliases',
      [
        'a: &a [x,x,x,x,x,x,x,x,x]',
        ...'bcdefgh'.split('').map(
          (n, i) =>
            `${n}: &${n} [${Array(9)
              .fill(`*${'abcdefg'[i] ?? ''}`)
              .join(',')}]`,
        ),
      ].join('\n'),
    ],
  ])('%s is no configuration at all', (_what, mesh) => {
    const object = { metadata: { name: 'istio', namespace: 'istio-system' }, data: { mesh } };
    const meta = decodeMetadata(object);
    if (meta === undefined) throw new TypeError('no name');
    const decoded = createMeshConfigDecoder(() => undefined)(object, meta);
    expect(decoded).toMatchObject({ ok: false, error: { field: 'data.mesh' } });
  });

  test('discovery selectors; of a bad one all of the last good ones stay', () => {
    const good = compiled(`
discoverySelectors:
- matchLabels: { mesh: "on" }
- matchExpressions: [{ key: team, operator: In, values: [a, b] }]
`);
    expect(told(good)).toEqual([]);
    expect(good.discoverySelectors).toEqual([
      { labels: new Map([['mesh', 'on']]), expressions: [] },
      {
        labels: new Map(),
        expressions: [{ key: 'team', operator: 'In', values: new Set(['a', 'b']) }],
      },
    ]);
    const bad = compiled(
      'discoverySelectors: [{ matchLabels: { mesh: "off" } }, { matchExpressions: [{ key: team, operator: In }] }]',
      good,
    );
    expect(bad.discoverySelectors).toBe(good.discoverySelectors);
    expect(told(bad)).toEqual([
      'data.mesh: discoverySelectors[1].matchExpressions[0].values: must name a value for In; Exists asks for the label alone',
    ]);
    const worse = compiled('discoverySelectors: [{ matchLabels: [mesh] }]', good);
    expect(worse.discoverySelectors).toBe(good.discoverySelectors);
    expect(told(worse)).toEqual(['data.mesh: discoverySelectors[0].matchLabels: must be object']);
    expect(compiled('', good).discoverySelectors).toEqual([]);
  });
});
