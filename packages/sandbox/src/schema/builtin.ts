import { definitionTexts, kindDefinitions } from './builtin-data.ts';
import type { JsonSchema } from './types.ts';

/** A definition as builtin-data.ts has it: like a JsonSchema, but other definitions are named instead of contained. */
export interface RawDefinition {
  readonly $ref?: string;
  readonly properties?: Readonly<Record<string, RawDefinition>>;
  readonly additionalProperties?: RawDefinition | boolean;
  readonly items?: RawDefinition;
  readonly [key: string]: unknown;
}

const kinds = new Map<string, string>(Object.entries(kindDefinitions));
const texts = new Map<string, string>(Object.entries(definitionTexts));
const definitions = new Map<string, RawDefinition>();
// Filled as kinds are asked for; a definition may contain itself, so each is entered before its members are linked.
const linked = new Map<string, JsonSchema>();

/** The schema of one of Kubernetes' own kinds (`group` is '' for core); undefined for every other kind. */
export function builtinSchema(
  group: string,
  version: string,
  kind: string,
): JsonSchema | undefined {
  const name = definitionOf(group, version, kind);
  return name === undefined ? undefined : linkDefinition(name);
}

/** Name of the kind's definition in the OpenAPI documents, for example `io.k8s.api.core.v1.Pod`. */
export function definitionOf(group: string, version: string, kind: string): string | undefined {
  return kinds.get(`${group === '' ? '' : `${group}/`}${version}/${kind}`);
}

export function rawDefinition(name: string): RawDefinition | undefined {
  const known = definitions.get(name);
  const text = texts.get(name);
  if (known !== undefined || text === undefined) return known;
  const definition = JSON.parse(text) as RawDefinition;
  definitions.set(name, definition);
  return definition;
}

/** Every kind with a schema, as {group, version, kind}. */
export function builtinKinds(): { group: string; version: string; kind: string }[] {
  return [...kinds.keys()].map((key) => {
    const parts = key.split('/');
    return { kind: parts.at(-1) ?? '', version: parts.at(-2) ?? '', group: parts.at(-3) ?? '' };
  });
}

export function linkDefinition(name: string): JsonSchema {
  const known = linked.get(name);
  if (known !== undefined) return known;
  const definition = rawDefinition(name);
  if (definition === undefined) throw new TypeError(`builtin-data.ts has no definition ${name}`);
  const schema: JsonSchema = {};
  linked.set(name, schema);
  Object.assign(schema, link(definition), { definition: name });
  return schema;
}

function link(definition: RawDefinition): JsonSchema {
  const { $ref, properties, additionalProperties, items, ...rest } = definition;
  if ($ref !== undefined) {
    const target = linkDefinition($ref);
    return Object.keys(rest).length === 0 ? target : { ...target, ...rest };
  }
  // Go's decoder reads null as "not given", whatever the field.
  const schema: Record<string, unknown> = { ...rest, nullable: true };
  if (properties !== undefined) {
    schema['properties'] = Object.fromEntries(
      Object.entries(properties).map(([key, value]) => [key, link(value)]),
    );
  }
  if (typeof additionalProperties === 'object') {
    schema['additionalProperties'] = link(additionalProperties);
  }
  if (items !== undefined) schema['items'] = link(items);
  return schema;
}

const objectMeta = 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta';

/** The schema of a whole object: a custom resource's own schema with the metadata every object has. */
export function resourceSchema(schema: JsonSchema | undefined): JsonSchema | undefined {
  if (schema?.definition !== undefined) return schema;
  return {
    ...(schema ?? { type: 'object', 'x-kubernetes-preserve-unknown-fields': true }),
    properties: {
      ...schema?.properties,
      apiVersion: { type: 'string' },
      kind: { type: 'string' },
      metadata: linkDefinition(objectMeta),
    },
  };
}
