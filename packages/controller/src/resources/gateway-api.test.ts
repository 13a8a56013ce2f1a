import { describe, expect, test } from '@jest/globals';

import type { JsonSchema, ResourceDefinition } from './crd.ts';
import { crdOf, schemaProblems } from './crd.ts';
import {
  grpcRouteResource,
  httpRouteResource,
  referenceGrantResource,
  tcpRouteResource,
  tlsRouteResource,
} from './gateway-api.ts';

const all = [
  httpRouteResource,
  grpcRouteResource,
  tcpRouteResource,
  tlsRouteResource,
  referenceGrantResource,
];
const backendRef = { name: 'a', port: 80 };

function fields(resource: ResourceDefinition, spec: unknown): string[] {
  return schemaProblems(resource, spec).map(({ field }) => field);
}

function walk(schema: JsonSchema, visit: (one: JsonSchema) => void): void {
  visit(schema);
  for (const one of Object.values(schema.properties ?? {})) walk(one, visit);
  if (schema.items !== undefined) walk(schema.items, visit);
}

describe('the kinds of the Gateway API', () => {
  test('have their names and versions', () => {
    expect(
      all.map(crdOf).map(({ metadata, spec }) => [metadata.name, spec.versions.map((v) => v.name)]),
    ).toEqual([
      ['httproutes.gateway.networking.k8s.io', ['v1', 'v1beta1']],
      ['grpcroutes.gateway.networking.k8s.io', ['v1']],
      ['tcproutes.gateway.networking.k8s.io', ['v1', 'v1alpha2']],
      ['tlsroutes.gateway.networking.k8s.io', ['v1', 'v1alpha3', 'v1alpha2']],
      ['referencegrants.gateway.networking.k8s.io', ['v1', 'v1beta1']],
    ]);
  });

  test('are structural', () => {
    for (const { spec } of all.map(crdOf)) {
      for (const { schema } of spec.versions) {
        walk(schema.openAPIV3Schema, (one) => {
          expect(one.type).toMatch(/^(?:object|array|string|integer|boolean)$/);
          if (one.type === 'array') expect(one.items).toBeDefined();
        });
      }
    }
  });

  test.each<[string, ResourceDefinition, unknown]>([
    [
      'an HTTPRoute with every field',
      httpRouteResource,
      {
        parentRefs: [
          { group: '', kind: 'Service', namespace: 'n', name: 's', sectionName: 'http', port: 80 },
        ],
        useDefaultGateways: 'None',
        hostnames: ['*.example.com'],
        rules: [
          {
            name: 'r',
            matches: [
              {
                path: { type: 'RegularExpression', value: '/a+' },
                headers: [{ type: 'Exact', name: 'X-A', value: 'b' }],
                queryParams: [{ type: 'RegularExpression', name: 'q', value: '.*' }],
                method: 'GET',
              },
            ],
            filters: [
              {
                type: 'RequestHeaderModifier',
                requestHeaderModifier: { set: [{ name: 'a', value: 'b' }], remove: ['c'] },
              },
              { type: 'ResponseHeaderModifier', responseHeaderModifier: { add: [] } },
              {
                type: 'RequestMirror',
                requestMirror: { backendRef, fraction: { numerator: 1, denominator: 3 } },
              },
              {
                type: 'RequestRedirect',
                requestRedirect: {
                  scheme: 'https',
                  hostname: 'example.com',
                  port: 443,
                  path: { type: 'ReplaceFullPath', replaceFullPath: '/' },
                  statusCode: 308,
                },
              },
              { type: 'URLRewrite', urlRewrite: { hostname: 'a.b' } },
              {
                type: 'CORS',
                cors: {
                  allowOrigins: ['*'],
                  allowCredentials: true,
                  allowMethods: ['*'],
                  allowHeaders: ['X-A'],
                  exposeHeaders: ['*'],
                  maxAge: 5,
                },
              },
              {
                type: 'ExternalAuth',
                externalAuth: {
                  protocol: 'HTTP',
                  backendRef,
                  http: { path: '/p', allowedHeaders: ['a'], allowedResponseHeaders: ['b'] },
                  forwardBody: { maxSize: 10 },
                },
              },
              { type: 'ExtensionRef', extensionRef: { group: 'g', kind: 'K', name: 'n' } },
            ],
            backendRefs: [{ ...backendRef, weight: 0, filters: [] }],
            timeouts: { request: '10s', backendRequest: '1m30s' },
            retry: { codes: [500], attempts: 3, backoff: '100ms' },
            sessionPersistence: {
              sessionName: 's',
              type: 'Cookie',
              absoluteTimeout: '1h',
              idleTimeout: '5m',
              cookieConfig: { lifetimeType: 'Permanent' },
            },
          },
        ],
      },
    ],
    [
      'a GRPCRoute',
      grpcRouteResource,
      { rules: [{ matches: [{ method: { service: 's', method: 'm' } }], filters: [] }] },
    ],
    ['a TCPRoute', tcpRouteResource, { rules: [{ name: 'a', backendRefs: [backendRef] }] }],
    ['a TLSRoute', tlsRouteResource, { hostnames: ['a.b'], rules: [{ backendRefs: [] }] }],
    [
      'a ReferenceGrant',
      referenceGrantResource,
      {
        from: [{ group: 'gateway.networking.k8s.io', kind: 'HTTPRoute', namespace: 'n' }],
        to: [{ group: '', kind: 'Service' }],
      },
    ],
  ])('%s keeps the schema', (_name, resource, spec) => {
    expect(schemaProblems(resource, spec)).toEqual([]);
  });

  const filter = (one: object) => ({ rules: [{ filters: [one] }] });
  test.each<[string, ResourceDefinition, unknown, string]>([
    ['an unknown field', httpRouteResource, { rule: [] }, 'spec.rule'],
    [
      'a line end in a header',
      httpRouteResource,
      filter({
        type: 'RequestHeaderModifier',
        requestHeaderModifier: { set: [{ name: 'a', value: 'b\r\nc: d' }] },
      }),
      'spec.rules[0].filters[0].requestHeaderModifier.set[0].value',
    ],
    [
      'a line end in a path',
      httpRouteResource,
      filter({
        type: 'RequestRedirect',
        requestRedirect: { path: { type: 'ReplaceFullPath', replaceFullPath: '/\r\na: b' } },
      }),
      'spec.rules[0].filters[0].requestRedirect.path.replaceFullPath',
    ],
    [
      'a status that is no redirect',
      httpRouteResource,
      filter({ type: 'RequestRedirect', requestRedirect: { statusCode: 200 } }),
      'spec.rules[0].filters[0].requestRedirect.statusCode',
    ],
    [
      'a fractional second',
      httpRouteResource,
      { rules: [{ timeouts: { request: '1.5s' } }] },
      'spec.rules[0].timeouts.request',
    ],
    ['no rules', tcpRouteResource, {}, 'spec'],
    [
      'a filter that gRPC does not have',
      grpcRouteResource,
      filter({ type: 'CORS' }),
      'spec.rules[0].filters[0].type',
    ],
    [
      'a port of 0',
      tcpRouteResource,
      { parentRefs: [{ name: 'a', port: 0 }], rules: [] },
      'spec.parentRefs[0].port',
    ],
  ])('%s breaks it', (_name, resource, spec, field) => {
    expect(fields(resource, spec)).toContain(field);
  });
});
