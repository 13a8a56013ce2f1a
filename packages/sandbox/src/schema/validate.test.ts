import { describe, expect, test } from '@jest/globals';
import { builtinSchema } from './builtin.ts';
import { applyDefaults, pruneUnknown, unknownFields } from './prune.ts';
import type { JsonObject, JsonSchema } from './types.ts';
import { validateBuiltin, validateMetadata } from './validate-builtin.ts';
import { validateCrd } from './validate-crd.ts';
import { maxFieldErrors, validateObject } from './validate.ts';

const string: JsonSchema = { type: 'string' };

describe('validateObject', () => {
  const cases: [JsonSchema, unknown, string][] = [
    [string, 1, 'Invalid value: "integer": spec.x in body must be of type string: "integer"'],
    [
      { type: 'integer' },
      1.5,
      'Invalid value: "number": spec.x in body must be of type integer: "number"',
    ],
    [string, null, 'Invalid value: "null": spec.x in body must be of type string: "null"'],
    [
      { type: 'string', enum: ['A', 'B'] },
      'X',
      'Unsupported value: "X": supported values: "A", "B"',
    ],
    [
      { type: 'string', pattern: '^a+$' },
      'b',
      `Invalid value: "b": spec.x in body should match '^a+$'`,
    ],
    [
      { type: 'string', minLength: 1 },
      '',
      'Invalid value: "": spec.x in body should be at least 1 chars long',
    ],
    [{ type: 'string', maxLength: 1 }, 'ab', 'Too long: may not be more than 1 bytes'],
    [
      { type: 'integer', minimum: 1 },
      0,
      'Invalid value: 0: spec.x in body should be greater than or equal to 1',
    ],
    [
      { type: 'integer', maximum: 9 },
      10,
      'Invalid value: 10: spec.x in body should be less than or equal to 9',
    ],
    [
      { type: 'integer', minimum: 1, exclusiveMinimum: true },
      1,
      'Invalid value: 1: spec.x in body should be greater than 1',
    ],
    [
      { type: 'number', multipleOf: 0.1 },
      0.25,
      'Invalid value: 0.25: spec.x in body should be a multiple of 0.1',
    ],
    [
      { type: 'integer', format: 'int32' },
      2 ** 31,
      'Invalid value: 2147483648: spec.x in body must be of type int32',
    ],
    [
      { type: 'string', format: 'date-time' },
      'soon',
      'Invalid value: "soon": spec.x in body must be of type date-time: "soon"',
    ],
    [
      { type: 'string', format: 'ipv4' },
      '::1',
      'Invalid value: "::1": spec.x in body must be of type ipv4: "::1"',
    ],
    [
      { type: 'array', items: string, maxItems: 1 },
      ['a', 'b'],
      'Too many: 2: must have at most 1 items',
    ],
    [
      { type: 'object', minProperties: 1 },
      {},
      'Invalid value: 0: spec.x in body should have at least 1 properties',
    ],
    [
      { 'x-kubernetes-int-or-string': true },
      true,
      'Invalid value: "boolean": spec.x in body must be of type integer,string: "boolean"',
    ],
    [
      { oneOf: [{ required: ['a'] }, { required: ['b'] }] },
      {},
      'Invalid value: {}: spec.x in body must validate one and only one schema (oneOf). Found none valid',
    ],
    [
      { not: { required: ['a'] } },
      { a: 1 },
      'Invalid value: {"a":1}: spec.x in body must not validate the schema (not)',
    ],
  ];
  test.each(cases)('%j against %j', (schema, value, message) => {
    expect(validateObject(schema, value, 'spec.x')).toEqual([
      { field: 'spec.x', reason: expect.any(String), message },
    ]);
  });

  test('a required field is named by its path', () => {
    const schema: JsonSchema = {
      type: 'object',
      properties: { list: { type: 'array', items: { type: 'object', required: ['a'] } } },
    };
    expect(validateObject(schema, { list: [{}] })).toEqual([
      { field: 'list[0].a', reason: 'FieldValueRequired', message: 'Required value' },
    ]);
  });
  test('duplicates of sets and keyed lists', () => {
    const set: JsonSchema = { type: 'array', items: string, 'x-kubernetes-list-type': 'set' };
    expect(validateObject(set, ['a', 'b', 'a'], 'l')).toMatchObject([
      { field: 'l[2]', message: 'Duplicate value: "a"' },
    ]);
    const map: JsonSchema = {
      type: 'array',
      'x-kubernetes-list-type': 'map',
      'x-kubernetes-list-map-keys': ['n'],
      items: { type: 'object', properties: { n: string } },
    };
    expect(validateObject(map, [{ n: 'a' }, { n: 'a' }], 'l')).toMatchObject([
      { reason: 'FieldValueDuplicate' },
    ]);
  });
  test('errors are bounded', () => {
    const schema: JsonSchema = { type: 'array', items: string };
    expect(validateObject(schema, new Array(1000).fill(1))).toHaveLength(maxFieldErrors);
  });
  test('a key of Object.prototype is no property', () => {
    const schema: JsonSchema = { type: 'object', properties: {} };
    expect(unknownFields(schema, { constructor: 1 })).toEqual(['constructor']);
  });
});

describe('the schemas of built-in kinds', () => {
  const pod = builtinSchema('', 'v1', 'Pod');
  test('take quantities, int-or-string, null and times', () => {
    const object = {
      metadata: { name: 'a', creationTimestamp: null },
      spec: {
        containers: [
          {
            name: 'c',
            resources: { limits: { cpu: 1.5, memory: '2Gi' } },
            readinessProbe: { httpGet: { port: 'http' } },
          },
        ],
      },
    };
    expect(validateObject(pod, object)).toEqual([]);
  });
  test('refuse a wrong type, a quantity that is none, and name what is unknown', () => {
    const object = {
      spec: {
        containers: [{ name: 'c', imagePullPolic: 'x', resources: { limits: { cpu: 'lots' } } }],
        nodeName: 1,
      },
    };
    expect(
      validateObject(pod, object)
        .map((one) => one.field)
        .sort(),
    ).toEqual(['spec.containers[0].resources.limits.cpu', 'spec.nodeName']);
    expect(unknownFields(pod, object)).toEqual(['spec.containers[0].imagePullPolic']);
  });
});

describe('pruneUnknown and applyDefaults', () => {
  const schema: JsonSchema = {
    type: 'object',
    properties: {
      spec: {
        type: 'object',
        default: {},
        properties: {
          mode: { type: 'string', default: 'on' },
          raw: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
        },
      },
    },
  };
  test('unknown fields go, metadata and preserved ones stay', () => {
    const object = {
      apiVersion: 'v',
      kind: 'K',
      metadata: { labels: { a: 'b' } },
      spec: { x: 1, raw: { y: 2 } },
      z: 3,
    };
    expect(pruneUnknown(schema, object)).toEqual({
      apiVersion: 'v',
      kind: 'K',
      metadata: { labels: { a: 'b' } },
      spec: { raw: { y: 2 } },
    });
  });
  test('defaults fill in, also inside a defaulted object and in place of a null', () => {
    expect(applyDefaults(schema, {})).toEqual({ spec: { mode: 'on' } });
    expect(applyDefaults(schema, { spec: { mode: null } })).toEqual({ spec: { mode: 'on' } });
    expect(applyDefaults(schema, { spec: { mode: 'off' } })).toEqual({ spec: { mode: 'off' } });
  });
});

describe('validateCrd', () => {
  const version = {
    name: 'v1',
    served: true,
    storage: true,
    schema: { openAPIV3Schema: { type: 'object' } },
  };
  const crd = (spec: JsonObject, name = 'things.ambit.dev'): JsonObject => ({
    metadata: { name },
    spec: {
      group: 'ambit.dev',
      scope: 'Namespaced',
      names: { plural: 'things', kind: 'Thing' },
      versions: [version],
      ...spec,
    },
  });
  const property = (schema: unknown): JsonObject =>
    crd({
      versions: [
        { ...version, schema: { openAPIV3Schema: { type: 'object', properties: { x: schema } } } },
      ],
    });
  const at = 'spec.versions[0].schema.openAPIV3Schema.properties[x]';

  test('a good one passes', () => {
    expect(validateCrd(property({ type: 'array', items: { type: 'string' } }))).toEqual([]);
  });
  test.each<[JsonObject, string]>([
    [crd({}, 'thing.ambit.dev'), 'metadata.name'],
    [crd({ group: 'core' }, 'things.core'), 'spec.group'],
    [crd({ scope: 'Everywhere' }), 'spec.scope'],
    [crd({ names: { plural: 'Things', kind: 'Thing' } }, 'Things.ambit.dev'), 'spec.names.plural'],
    [crd({ versions: [] }), 'spec.versions'],
    [crd({ versions: [{ ...version, storage: false }] }), 'spec.versions'],
    [
      crd({ versions: [{ name: 'v1', served: true, storage: true }] }),
      'spec.versions[0].schema.openAPIV3Schema',
    ],
    [property({}), `${at}.type`],
    [property({ type: 'text' }), `${at}.type`],
    [property({ type: 'array' }), `${at}.items`],
    [property({ type: 'string', pattern: '(' }), `${at}.pattern`],
    [property({ type: 'string', pattern: 'a'.repeat(2000) }), `${at}.pattern`],
    [
      property({ type: 'array', 'x-kubernetes-list-type': 'map', items: { type: 'object' } }),
      `${at}.x-kubernetes-list-map-keys`,
    ],
    [
      property({ type: 'object', properties: {}, additionalProperties: { type: 'string' } }),
      `${at}.additionalProperties`,
    ],
  ])('refuses %j', (object, field) => {
    expect(validateCrd(object).map((one) => one.field)).toEqual([field]);
  });
});

describe('rules of built-in kinds', () => {
  const podSpec = { containers: [{ name: 'c', image: 'i' }] };
  const workload = (labels: JsonObject): JsonObject => ({
    spec: {
      selector: { matchLabels: { app: 'a' } },
      template: { metadata: { labels }, spec: podSpec },
    },
  });
  test.each<[string, string, JsonObject, string[]]>([
    ['', 'Pod', { spec: podSpec }, []],
    ['', 'Pod', { spec: {} }, ['spec.containers']],
    [
      '',
      'Pod',
      { spec: { containers: [{ name: 'A', image: 'i', ports: [{ containerPort: 70_000 }] }] } },
      ['spec.containers[0].name', 'spec.containers[0].ports[0].containerPort'],
    ],
    ['apps', 'Deployment', workload({ app: 'a' }), []],
    ['apps', 'Deployment', workload({ app: 'b' }), ['spec.template.metadata.labels']],
    [
      '',
      'Service',
      { spec: { ports: [{ port: 80 }, { port: 80 }] } },
      ['spec.ports[0].name', 'spec.ports[1].name', 'spec.ports[1]'],
    ],
    ['', 'Service', { spec: { clusterIP: 'None' } }, []],
    ['', 'ConfigMap', { data: { 'a b': 'x' } }, ['data[a b]']],
  ])('%s/%s %j', (group, kind, object, fields) => {
    expect(validateBuiltin(group, kind, object).map((one) => one.field)).toEqual(fields);
  });
  test('names, labels and annotations', () => {
    const metadata = { name: 'Web_1', labels: { 'a//b': 'x', ok: '-' }, annotations: { '': 'x' } };
    const errors = validateMetadata({ metadata }, { kind: 'Pod', group: '', namespaced: true });
    expect(errors.map((one) => one.field)).toEqual([
      'metadata.name',
      'metadata.labels',
      'metadata.labels',
      'metadata.annotations',
    ]);
    expect(errors[0]?.message).toMatch(
      /^Invalid value: "Web_1": a lowercase RFC 1123 subdomain must consist of/,
    );
  });
});
