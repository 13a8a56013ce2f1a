import { describe, expect, test } from '@jest/globals';

import type { JsonSchema } from './crd.ts';
import { crds } from './index.ts';

function walk(schema: JsonSchema, visit: (one: JsonSchema) => void): void {
  visit(schema);
  for (const one of Object.values(schema.properties ?? {})) walk(one, visit);
  if (schema.items !== undefined) walk(schema.items, visit);
  if (schema.additionalProperties !== undefined) walk(schema.additionalProperties, visit);
}

describe('the definitions of custom resources', () => {
  test('are those of Istio and our own, by name, versions and short names', () => {
    expect(
      crds().map(
        ({ metadata, spec }) =>
          `${metadata.name} ${spec.names.shortNames.join()} ${spec.versions
            .map(({ name, served, storage }) => `${name}${served ? '' : '-'}${storage ? '*' : ''}`)
            .join()}`,
      ),
    ).toEqual([
      'peerauthentications.security.istio.io pa v1*,v1beta1',
      'authorizationpolicies.security.istio.io ap v1*,v1beta1',
      'requestauthentications.security.istio.io ra v1*,v1beta1',
      'virtualservices.networking.istio.io vs v1*,v1beta1,v1alpha3',
      'destinationrules.networking.istio.io dr v1*,v1beta1,v1alpha3',
      'serviceentries.networking.istio.io se v1*,v1beta1,v1alpha3',
      'workloadentries.networking.istio.io we v1*,v1beta1,v1alpha3',
      'telemetries.telemetry.istio.io telemetry v1*,v1alpha1',
      'gateways.gateway.networking.k8s.io gtw v1*,v1beta1',
      'gatewayclasses.gateway.networking.k8s.io gc v1*,v1beta1',
      'httproutes.gateway.networking.k8s.io  v1*,v1beta1',
      'grpcroutes.gateway.networking.k8s.io  v1*',
      'tcproutes.gateway.networking.k8s.io  v1*,v1alpha2',
      'tlsroutes.gateway.networking.k8s.io  v1*,v1alpha3,v1alpha2',
      'referencegrants.gateway.networking.k8s.io refgrant v1*,v1beta1',
      'ratelimitpolicies.ambit.dev rlp v1alpha1*',
    ]);
  });

  test('are structural: every schema has a type, and nothing that the API server refuses', () => {
    for (const { spec } of crds()) {
      for (const { schema, subresources } of spec.versions) {
        expect(subresources).toEqual({ status: {} });
        walk(schema.openAPIV3Schema, (one) => {
          const free = one['x-kubernetes-preserve-unknown-fields'] === true;
          expect(free ? 'object' : one.type).toMatch(
            /^(?:object|array|string|boolean|integer|number)$/,
          );
          expect('patternProperties' in one).toBe(false);
          expect(one.properties !== undefined && one.additionalProperties !== undefined).toBe(
            false,
          );
          if (one.type === 'array') expect(one.items).toBeDefined();
        });
      }
    }
  });

  test('say of a length of time what Istio says, but where 0s has a meaning', () => {
    const specOf = (plural: string): JsonSchema =>
      crds().find(({ spec }) => spec.names.plural === plural)?.spec.versions[0]?.schema
        .openAPIV3Schema.properties?.['spec'] ?? {};
    const at = (schema: JsonSchema, path: string): string | undefined => {
      const found = path
        .split('.')
        .reduce<JsonSchema | undefined>(
          (one, name) => (name === '[]' ? one?.items : one?.properties?.[name]),
          schema,
        );
      expect(found?.type).toBe('string');
      return found?.['x-kubernetes-validations']?.[0]?.rule;
    };
    const rule = "duration(self) >= duration('1ms')";
    const [route, rules] = [specOf('virtualservices'), specOf('destinationrules')];
    for (const path of ['timeout', 'retries.perTryTimeout', 'fault.delay.fixedDelay'])
      expect(at(route, `http.[].${path}`)).toBe(rule);
    const policies = [
      'trafficPolicy',
      'trafficPolicy.portLevelSettings.[]',
      'subsets.[].trafficPolicy',
    ];
    for (const policy of policies) {
      expect(at(rules, `${policy}.outlierDetection.interval`)).toBe(rule);
      expect(at(rules, `${policy}.connectionPool.http.idleTimeout`)).toBe(rule);
      expect(at(rules, `${policy}.connectionPool.tcp.idleTimeout`)).toBeUndefined();
      expect(at(rules, `${policy}.loadBalancer.consistentHash.httpCookie.ttl`)).toBeUndefined();
    }
    // So many could be there that an API server refuses to reckon with them.
    const deepest = 'subsets.[].trafficPolicy.portLevelSettings.[].outlierDetection.interval';
    expect(at(rules, deepest)).toBeUndefined();
  });

  test('know the modes and the actions', () => {
    const [peer, policy] = crds().map(
      ({ spec }) => spec.versions[0]?.schema.openAPIV3Schema.properties?.['spec']?.properties ?? {},
    );
    expect(peer?.['mtls']?.properties?.['mode']?.enum).toEqual([
      'UNSET',
      'DISABLE',
      'PERMISSIVE',
      'STRICT',
    ]);
    expect(peer?.['portLevelMtls']?.additionalProperties?.properties?.['mode']?.enum).toHaveLength(
      4,
    );
    expect(policy?.['action']?.enum).toEqual(['ALLOW', 'DENY', 'AUDIT', 'CUSTOM']);
  });
});
