import { canonical, isObject, own } from './json.ts';
import type { JsonSchema } from './types.ts';

/** How a list merges; a list that says nothing is one value (atomic). */
export type ListShape =
  | { readonly kind: 'atomic' }
  | { readonly kind: 'set' }
  | { readonly kind: 'map'; readonly keys: readonly string[] };

/** True when the schema itself names this member, which `additionalProperties` does not. */
export function isNamedField(schema: JsonSchema | undefined, key: string): boolean {
  return schema?.properties !== undefined && Object.hasOwn(schema.properties, key);
}

/** The schema of a member of an object; undefined when nothing is said about it. */
export function fieldSchema(schema: JsonSchema | undefined, key: string): JsonSchema | undefined {
  if (schema === undefined) return undefined;
  if (schema.properties !== undefined && Object.hasOwn(schema.properties, key)) {
    return schema.properties[key];
  }
  return typeof schema.additionalProperties === 'object' ? schema.additionalProperties : undefined;
}

export function isAtomicMap(schema: JsonSchema | undefined): boolean {
  return schema?.['x-kubernetes-map-type'] === 'atomic';
}

export function listShape(schema: JsonSchema | undefined): ListShape {
  const type = schema?.['x-kubernetes-list-type'];
  if (type === 'set') return { kind: 'set' };
  const keys = schema?.['x-kubernetes-list-map-keys'] ?? [];
  return type === 'map' && keys.length > 0 ? { kind: 'map', keys } : { kind: 'atomic' };
}

/** Path element of a list's item in fieldsV1 form (`k:{…}` or `v:…`); undefined when a key is missing and has no default. */
export function itemElement(
  shape: ListShape,
  itemSchema: JsonSchema | undefined,
  item: unknown,
): string | undefined {
  if (shape.kind !== 'map') return `v:${canonical(item)}`;
  if (!isObject(item)) return undefined;
  const pairs: string[] = [];
  for (const key of [...shape.keys].sort()) {
    const value = own(item, key) ?? fieldSchema(itemSchema, key)?.default;
    if (value === undefined) return undefined;
    pairs.push(`${JSON.stringify(key)}:${canonical(value)}`);
  }
  return `k:{${pairs.join(',')}}`;
}

/** Items of an associative list by path element; of two with one key the first counts. */
export function itemsByElement(
  schema: JsonSchema | undefined,
  list: readonly unknown[],
): Map<string, unknown> {
  const shape = listShape(schema);
  const items = new Map<string, unknown>();
  for (const item of list) {
    const element = itemElement(shape, schema?.items, item);
    if (element !== undefined && !items.has(element)) items.set(element, item);
  }
  return items;
}

/** The schema below a path element. */
export function elementSchema(
  schema: JsonSchema | undefined,
  element: string,
): JsonSchema | undefined {
  return element.startsWith('f:') ? fieldSchema(schema, element.slice(2)) : schema?.items;
}
