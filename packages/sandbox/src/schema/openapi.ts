import type { RawDefinition } from './builtin.ts';
import { definitionOf, rawDefinition } from './builtin.ts';
import { isObject, own } from './json.ts';
import type { JsonObject } from './types.ts';

/** A kind that the API serves. */
export interface ServedResource {
  /** '' for core. */
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  /** Plural name in paths. */
  readonly plural: string;
  readonly namespaced: boolean;
}

export interface OpenApiInput {
  readonly resources: readonly ServedResource[];
  /** CustomResourceDefinitions as stored. */
  readonly crds: readonly JsonObject[];
}

interface CustomVersion extends ServedResource {
  readonly schema: unknown;
}

const meta = 'io.k8s.apimachinery.pkg.apis.meta.v1';
const v2Prefix = '#/definitions/';
const v3Prefix = '#/components/schemas/';
const info = { title: 'Kubernetes', version: 'v1.34.0' };
const common = ['DeleteOptions', 'Status', 'ObjectMeta', 'ListMeta'].map(
  (kind) => `${meta}.${kind}`,
);

/** `/openapi/v3`: where the document of each group and version is. */
export function openApiV3Index(input: OpenApiInput): JsonObject {
  const paths: JsonObject = {};
  for (const { group, version } of [...input.resources, ...input.crds.flatMap(versionsOf)]) {
    const path = group === '' ? `api/${version}` : `apis/${group}/${version}`;
    paths[path] = { serverRelativeURL: `/openapi/v3/${path}` };
  }
  return { paths };
}

/** `/openapi/v3/apis/GROUP/VERSION`; undefined when nothing of that group and version is served. `groupVersion` is `v1` or `apps/v1`. */
export function openApiV3(groupVersion: string, input: OpenApiInput): JsonObject | undefined {
  const at = ({ group, version }: ServedResource): boolean =>
    (group === '' ? version : `${group}/${version}`) === groupVersion;
  const resources = input.resources.filter(at);
  const customs = input.crds.flatMap(versionsOf).filter(at);
  if (resources.length === 0 && customs.length === 0) return undefined;
  return {
    openapi: '3.0.0',
    info,
    paths: pathsOf([...resources, ...customs], v3Prefix),
    components: { schemas: schemasOf(resources, customs, v3Prefix) },
  };
}

/** `/openapi/v2`: everything in one document of Swagger 2.0. */
export function openApiV2(input: OpenApiInput): JsonObject {
  const customs = input.crds.flatMap(versionsOf);
  return {
    swagger: '2.0',
    info,
    paths: pathsOf([...input.resources, ...customs], v2Prefix),
    definitions: schemasOf(input.resources, customs, v2Prefix),
  };
}

function versionsOf(crd: JsonObject): CustomVersion[] {
  const spec = own(crd, 'spec');
  const names = own(spec, 'names');
  const text = (value: unknown): string => (typeof value === 'string' ? value : '');
  const versions = own(spec, 'versions');
  if (!Array.isArray(versions)) return [];
  return versions
    .filter((version: unknown) => own(version, 'served') === true)
    .map((version: unknown) => ({
      group: text(own(spec, 'group')),
      version: text(own(version, 'name')),
      kind: text(own(names, 'kind')),
      plural: text(own(names, 'plural')),
      namespaced: own(spec, 'scope') === 'Namespaced',
      schema: own(own(version, 'schema'), 'openAPIV3Schema'),
    }));
}

/** `dev.ambit.v1alpha1.Thing`: the group turned round, as the API server names the schemas of custom resources. */
function customName({ group, version, kind }: ServedResource): string {
  return `${group.split('.').reverse().join('.')}.${version}.${kind}`;
}

function nameOf(resource: ServedResource): string {
  const { group, version, kind } = resource;
  return definitionOf(group, version, kind) ?? customName(resource);
}

function schemasOf(
  resources: readonly ServedResource[],
  customs: readonly CustomVersion[],
  prefix: string,
): JsonObject {
  const schemas: JsonObject = {};
  const identities = new Map<string, JsonObject[]>();
  for (const resource of resources) {
    const { group, version, kind } = resource;
    const name = definitionOf(group, version, kind);
    if (name === undefined) continue;
    identities.set(name, [...(identities.get(name) ?? []), { group, kind, version }]);
  }
  const queue = [...common, ...identities.keys()];
  for (const name of queue) {
    const definition = rawDefinition(name);
    if (definition === undefined || Object.hasOwn(schemas, name)) continue;
    const gvk = identities.get(name);
    const emitted = emit(definition, prefix, queue);
    schemas[name] =
      gvk === undefined ? emitted : { ...emitted, 'x-kubernetes-group-version-kind': gvk };
  }
  for (const custom of customs) {
    schemas[customName(custom)] = customSchema(custom, prefix);
    schemas[`${customName(custom)}List`] = listSchema(custom, prefix);
  }
  return schemas;
}

/** A definition with its references spelt for the document; names it refers to are added to `queue`. */
function emit(definition: RawDefinition, prefix: string, queue: string[]): JsonObject {
  const { $ref, properties, additionalProperties, items, ...rest } = definition;
  if ($ref !== undefined) {
    queue.push($ref);
    const ref = { $ref: `${prefix}${$ref}` };
    if (Object.keys(rest).length === 0) return ref;
    return prefix === v2Prefix ? { ...rest, ...ref } : { ...rest, allOf: [ref] };
  }
  const out: JsonObject = { ...rest };
  if (rest['x-kubernetes-int-or-string'] === true) {
    delete out['x-kubernetes-int-or-string'];
    delete out['type'];
    // Swagger 2.0 has no oneOf: there the API server calls these strings.
    const numeric = rest['format'] === 'quantity' ? 'number' : 'integer';
    if (rest['format'] === 'quantity') delete out['format'];
    Object.assign(
      out,
      prefix === v2Prefix ? { type: 'string' } : { oneOf: [{ type: numeric }, { type: 'string' }] },
    );
  }
  if (properties !== undefined) {
    out['properties'] = Object.fromEntries(
      Object.entries(properties).map(([key, value]) => [key, emit(value, prefix, queue)]),
    );
  }
  if (typeof additionalProperties === 'object') {
    out['additionalProperties'] = emit(additionalProperties, prefix, queue);
  }
  if (items !== undefined) out['items'] = emit(items, prefix, queue);
  return out;
}

const identityDescriptions = {
  apiVersion: 'The version of the schema this object is written in: GROUP/VERSION.',
  kind: 'The kind of the object, in CamelCase; it cannot be changed.',
  metadata: "Standard object's metadata.",
};

function customSchema(custom: CustomVersion, prefix: string): JsonObject {
  const { group, version, kind } = custom;
  const schema = isObject(custom.schema) ? custom.schema : { type: 'object' };
  const metadata = { $ref: `${prefix}${meta}.ObjectMeta` };
  const described = { description: identityDescriptions.metadata };
  return {
    ...schema,
    type: 'object',
    properties: {
      ...(isObject(schema['properties']) ? schema['properties'] : {}),
      apiVersion: { type: 'string', description: identityDescriptions.apiVersion },
      kind: { type: 'string', description: identityDescriptions.kind },
      metadata:
        prefix === v2Prefix ? { ...described, ...metadata } : { ...described, allOf: [metadata] },
    },
    'x-kubernetes-group-version-kind': [{ group, kind, version }],
  };
}

function listSchema(custom: CustomVersion, prefix: string): JsonObject {
  const { group, version, kind } = custom;
  return {
    description: `${kind}List is a list of ${kind}`,
    type: 'object',
    required: ['items'],
    properties: {
      apiVersion: { type: 'string', description: identityDescriptions.apiVersion },
      items: { type: 'array', items: { $ref: `${prefix}${customName(custom)}` } },
      kind: { type: 'string', description: identityDescriptions.kind },
      metadata: { $ref: `${prefix}${meta}.ListMeta` },
    },
    'x-kubernetes-group-version-kind': [{ group, kind: `${kind}List`, version }],
  };
}

function pathsOf(resources: readonly ServedResource[], prefix: string): JsonObject {
  const paths: JsonObject = {};
  for (const resource of resources) {
    const { group, version, plural, namespaced } = resource;
    const root = group === '' ? `/api/${version}` : `/apis/${group}/${version}`;
    const collection = namespaced
      ? `${root}/namespaces/{namespace}/${plural}`
      : `${root}/${plural}`;
    paths[collection] = operations(resource, prefix, [
      ['get', 'list'],
      ['post', 'post'],
    ]);
    paths[`${collection}/{name}`] = operations(resource, prefix, [
      ['get', 'get'],
      ['put', 'put'],
      ['patch', 'patch'],
      ['delete', 'delete'],
    ]);
    if (namespaced) paths[`${root}/${plural}`] = operations(resource, prefix, [['get', 'list']]);
  }
  return paths;
}

function operations(
  resource: ServedResource,
  prefix: string,
  verbs: readonly (readonly [string, string])[],
): JsonObject {
  const { group, version, kind } = resource;
  const out: JsonObject = {};
  for (const [method, action] of verbs) {
    out[method] = {
      'x-kubernetes-action': action,
      'x-kubernetes-group-version-kind': { group, kind, version },
      ...(method === 'get' || method === 'delete' ? {} : { parameters: writeParameters(prefix) }),
      responses: { '200': okResponse(nameOf(resource), prefix) },
    };
  }
  return out;
}

/** kubectl asks for these by name to learn whether the server validates fields and dry-runs. */
function writeParameters(prefix: string): JsonObject[] {
  const type = prefix === v2Prefix ? { type: 'string' } : { schema: { type: 'string' } };
  return ['dryRun', 'fieldManager', 'fieldValidation', 'force'].map((name) => ({
    name,
    in: 'query',
    ...type,
  }));
}

function okResponse(name: string, prefix: string): JsonObject {
  const schema = { $ref: `${prefix}${name}` };
  return prefix === v2Prefix
    ? { description: 'OK', schema }
    : { description: 'OK', content: { 'application/json': { schema } } };
}
