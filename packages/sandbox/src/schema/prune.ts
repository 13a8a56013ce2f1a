import { clone, isObject, objectOf, put } from './json.ts';
import { fieldSchema, isNamedField } from './shape.ts';
import type { JsonObject, JsonSchema } from './types.ts';

const resourceFields = new Set(['apiVersion', 'kind', 'metadata']);

function keepsUnknown(schema: JsonSchema): boolean {
  return (
    schema['x-kubernetes-preserve-unknown-fields'] === true || schema.additionalProperties === true
  );
}

/** Where a field may stand: the object is a whole resource, whose identity every schema allows. */
function isResource(schema: JsonSchema, root: boolean): boolean {
  return root || schema['x-kubernetes-embedded-resource'] === true;
}

function isKnown(schema: JsonSchema, key: string, root: boolean): boolean {
  if (isNamedField(schema, key) || typeof schema.additionalProperties === 'object') return true;
  return keepsUnknown(schema) || (isResource(schema, root) && resourceFields.has(key));
}

/** A schema that says nothing of members (`{}`, RawExtension) takes any. */
function saysNothing(schema: JsonSchema): boolean {
  return (
    schema.properties === undefined &&
    schema.additionalProperties === undefined &&
    schema.type === undefined
  );
}

/** Dotted paths of fields that the schema does not have: `spec.containers[0].imagePullPolic`. */
export function unknownFields(schema: JsonSchema | undefined, object: unknown): string[] {
  const found: string[] = [];
  if (schema !== undefined) findUnknown(schema, object, { path: '', root: true }, found);
  return found;
}

interface Place {
  readonly path: string;
  readonly root: boolean;
}

function findUnknown(schema: JsonSchema, value: unknown, at: Place, found: string[]): void {
  if (Array.isArray(value)) {
    const { items } = schema;
    if (items === undefined) return;
    for (const [index, item] of value.entries()) {
      findUnknown(items, item, { path: `${at.path}[${index}]`, root: false }, found);
    }
    return;
  }
  if (!isObject(value) || saysNothing(schema)) return;
  for (const [key, member] of Object.entries(value)) {
    const path = at.path === '' ? key : `${at.path}.${key}`;
    const below = fieldSchema(schema, key);
    if (!isKnown(schema, key, at.root)) found.push(path);
    else if (below !== undefined) findUnknown(below, member, { path, root: false }, found);
  }
}

/** The object without the fields its schema does not have; for Kubernetes' own kinds also without nulls. */
export function pruneUnknown<T>(schema: JsonSchema | undefined, object: T): T {
  if (schema === undefined) return clone(object);
  const pruned = pruneAt(schema, object, true);
  return (schema.definition === undefined ? pruned : dropNulls(pruned)) as T;
}

function pruneAt(schema: JsonSchema, value: unknown, root: boolean): unknown {
  if (Array.isArray(value)) {
    const { items } = schema;
    return items === undefined
      ? clone(value)
      : value.map((item: unknown) => pruneAt(items, item, false));
  }
  if (!isObject(value) || saysNothing(schema)) return clone(value);
  const kept: JsonObject = {};
  for (const [key, member] of Object.entries(value)) {
    if (!isKnown(schema, key, root)) continue;
    const below = fieldSchema(schema, key);
    const whole =
      below === undefined ||
      (isResource(schema, root) && below.properties === undefined && key === 'metadata');
    put(kept, key, whole ? clone(member) : pruneAt(below, member, false));
  }
  return kept;
}

/** Without the members that are null, which Go's decoder reads as not given. */
export function dropNulls<T>(value: T): T {
  if (Array.isArray(value)) return value.map((item: unknown) => dropNulls(item)) as T;
  if (!isObject(value)) return value;
  const entries = Object.entries(value).filter(([, member]) => member !== null);
  return objectOf(entries.map(([key, member]) => [key, dropNulls(member)])) as T;
}

/** The object with the schema's defaults where nothing is given; null counts as not given where null is not allowed. */
export function applyDefaults<T>(schema: JsonSchema | undefined, object: T): T {
  const copy = clone(object);
  if (schema !== undefined) fillDefaults(schema, copy);
  return copy;
}

function fillDefaults(schema: JsonSchema, value: unknown): void {
  if (Array.isArray(value)) {
    for (const item of value) if (schema.items !== undefined) fillDefaults(schema.items, item);
    return;
  }
  if (!isObject(value)) return;
  for (const [key, property] of Object.entries(schema.properties ?? {})) {
    if (property.default === undefined) continue;
    const given = Object.hasOwn(value, key) ? value[key] : undefined;
    const missing = given === undefined || (given === null && property.nullable !== true);
    if (missing) put(value, key, clone(property.default));
  }
  for (const [key, member] of Object.entries(value)) {
    const below = fieldSchema(schema, key);
    if (below !== undefined) fillDefaults(below, member);
  }
}
