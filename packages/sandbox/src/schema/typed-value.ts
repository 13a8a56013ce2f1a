import { clone, deepEqual, isObject, put } from './json.ts';
import type { FieldSet } from './field-set.ts';
import { emptySet, insert } from './field-set.ts';
import {
  fieldSchema,
  isAtomicMap,
  isNamedField,
  itemElement,
  itemsByElement,
  listShape,
} from './shape.ts';
import type { JsonObject, JsonSchema } from './types.ts';

/** What differs between two objects, as paths. */
export interface Comparison {
  readonly added: FieldSet;
  readonly modified: FieldSet;
  readonly removed: FieldSet;
}

type Path = readonly string[];

/** All fields that a value sets (structured-merge-diff's ToFieldSet). */
export function fieldsOf(schema: JsonSchema | undefined, value: unknown): FieldSet {
  const set = emptySet();
  collect(set, [], schema, value);
  return set;
}

function collect(set: FieldSet, path: Path, schema: JsonSchema | undefined, value: unknown): void {
  if (isObject(value) && !isAtomicMap(schema)) {
    for (const [key, member] of Object.entries(value)) {
      const at = [...path, `f:${key}`];
      collect(set, at, fieldSchema(schema, key), member);
      const isEmptyMap = isObject(member) && Object.keys(member).length === 0;
      if (isEmptyMap || !isNamedField(schema, key)) insert(set, at);
    }
    return;
  }
  if (Array.isArray(value) && listShape(schema).kind !== 'atomic') {
    for (const [element, item] of itemsByElement(schema, value)) {
      collect(set, [...path, element], schema?.items, item);
      insert(set, [...path, element]);
    }
    return;
  }
  insert(set, path);
}

/** What changed from `before` to `after`; `undefined` stands for absent. */
export function compare(
  schema: JsonSchema | undefined,
  before: unknown,
  after: unknown,
): Comparison {
  const result = { added: emptySet(), modified: emptySet(), removed: emptySet() };
  compareAt(result, [], schema, { before, after });
  return result;
}

interface Pair {
  readonly before: unknown;
  readonly after: unknown;
}

function compareAt(out: Comparison, path: Path, schema: JsonSchema | undefined, pair: Pair): void {
  const members = membersOf(schema, pair);
  if (members === undefined) {
    compareLeaf(out, path, pair);
    return;
  }
  for (const [element, member] of members) {
    const below = element.startsWith('f:') ? fieldSchema(schema, element.slice(2)) : schema?.items;
    compareAt(out, [...path, element], below, member);
  }
  if (pair.before === undefined) insert(out.added, path);
  else if (pair.after === undefined) insert(out.removed, path);
}

function compareLeaf(out: Comparison, path: Path, { before, after }: Pair): void {
  if (before === undefined) insert(out.added, path);
  else if (after === undefined) insert(out.removed, path);
  else if (!deepEqual(before, after)) insert(out.modified, path);
}

/** The members of two maps or associative lists, side by side; undefined when the pair is to be compared as one value. */
function membersOf(schema: JsonSchema | undefined, pair: Pair): Map<string, Pair> | undefined {
  const before = parts(schema, pair.before);
  const after = parts(schema, pair.after);
  if (before === 'leaf' || after === 'leaf') return undefined;
  if (before.size === 0 && after.size === 0) return undefined;
  const members = new Map<string, Pair>();
  for (const [element, value] of before) {
    members.set(element, { before: value, after: after.get(element) });
  }
  for (const [element, value] of after) {
    if (!members.has(element)) members.set(element, { before: undefined, after: value });
  }
  return members;
}

function parts(schema: JsonSchema | undefined, value: unknown): Map<string, unknown> | 'leaf' {
  if (value === undefined || value === null) return new Map();
  if (isObject(value) && !isAtomicMap(schema)) {
    return new Map(Object.entries(value).map(([key, member]) => [`f:${key}`, member]));
  }
  if (Array.isArray(value) && listShape(schema).kind !== 'atomic') {
    return itemsByElement(schema, value);
  }
  return 'leaf';
}

/** `right` laid over `left`: maps and associative lists merge, of everything else the right one counts. */
export function mergeValues(
  schema: JsonSchema | undefined,
  left: unknown,
  right: unknown,
): unknown {
  if (right === undefined) return clone(left);
  if (isObject(left) && isObject(right) && !isAtomicMap(schema)) {
    const merged: JsonObject = clone(left);
    for (const [key, value] of Object.entries(right)) {
      const mine = Object.hasOwn(left, key) ? left[key] : undefined;
      put(merged, key, mergeValues(fieldSchema(schema, key), mine, value));
    }
    return merged;
  }
  if (Array.isArray(left) && Array.isArray(right) && listShape(schema).kind !== 'atomic') {
    return mergeLists(schema, left, right);
  }
  return clone(right);
}

/** Shared items come in the right list's order; items only on the left keep their place before the next shared one. */
function mergeLists(
  schema: JsonSchema | undefined,
  left: readonly unknown[],
  right: readonly unknown[],
): unknown[] {
  const mine = itemsByElement(schema, left);
  const theirs = itemsByElement(schema, right);
  const lefts = [...mine.keys()];
  const rights = [...theirs.keys()];
  const shared = rights.filter((element) => mine.has(element));
  const out: unknown[] = [];
  const take = (element: string): void => {
    out.push(mergeValues(schema?.items, mine.get(element), theirs.get(element)));
  };
  let atShared = 0;
  let atRight = 0;
  for (const element of lefts) {
    if (!theirs.has(element)) {
      take(element);
      continue;
    }
    // A shared item that is not the next in the right list's order is taken when its turn comes there.
    if (element !== shared[atShared]) continue;
    for (; atRight < rights.length; atRight += 1) {
      const next = rights[atRight] ?? '';
      take(next);
      if (next === element) break;
    }
    atRight += 1;
    atShared += 1;
  }
  for (const element of rights.slice(atRight)) take(element);
  return out;
}

/**
 * The value without the paths of `gone`. A map or list whose last member goes, but which is not itself gone, becomes null:
 * somebody owns it as such (`restoreEmptied` makes it empty again).
 */
export function withoutFields(
  schema: JsonSchema | undefined,
  value: unknown,
  gone: FieldSet,
): unknown {
  if (isObject(value) && !isAtomicMap(schema)) {
    const kept: JsonObject = {};
    for (const [key, member] of Object.entries(value)) {
      const element = `f:${key}`;
      if (gone.members.has(element)) continue;
      const below = gone.children.get(element);
      const left =
        below === undefined ? member : withoutFields(fieldSchema(schema, key), member, below);
      put(kept, key, left);
    }
    return Object.keys(kept).length > 0 ? kept : null;
  }
  if (Array.isArray(value) && listShape(schema).kind !== 'atomic') {
    const kept = value.flatMap((item: unknown) => keptItem(schema, item, gone));
    return kept.length > 0 ? kept : null;
  }
  return value;
}

/** Puts an empty map or list where `withoutFields` left null for one. */
export function restoreEmptied(
  schema: JsonSchema | undefined,
  before: unknown,
  after: unknown,
): unknown {
  if (after === null) return isObject(before) ? {} : Array.isArray(before) ? [] : null;
  if (isObject(before) && isObject(after)) {
    const restored: JsonObject = {};
    for (const [key, member] of Object.entries(after)) {
      put(restored, key, restoreEmptied(fieldSchema(schema, key), before[key], member));
    }
    return restored;
  }
  if (!Array.isArray(after) || !Array.isArray(before) || listShape(schema).kind === 'atomic') {
    return after;
  }
  const shape = listShape(schema);
  const items = itemsByElement(schema, before);
  return after.map((item: unknown) => {
    const element = itemElement(shape, schema?.items, item) ?? '';
    return restoreEmptied(schema?.items, items.get(element), item);
  });
}

function keptItem(schema: JsonSchema | undefined, item: unknown, gone: FieldSet): unknown[] {
  const element = itemElement(listShape(schema), schema?.items, item) ?? '';
  if (gone.members.has(element)) return [];
  const below = gone.children.get(element);
  if (below === undefined) return [item];
  const left = withoutFields(schema?.items, item, below);
  return [left];
}

/** The first item of an associative list that has no key or the key of another, as the API server words it. */
export function listProblem(
  schema: JsonSchema | undefined,
  value: unknown,
  path = '',
): string | undefined {
  if (isObject(value)) {
    for (const [key, member] of Object.entries(value)) {
      const problem = listProblem(fieldSchema(schema, key), member, `${path}.${key}`);
      if (problem !== undefined) return problem;
    }
    return undefined;
  }
  return Array.isArray(value) ? itemProblem(schema, value, path) : undefined;
}

function itemProblem(
  schema: JsonSchema | undefined,
  list: readonly unknown[],
  path: string,
): string | undefined {
  const shape = listShape(schema);
  const seen = new Set<string>();
  for (const [index, item] of list.entries()) {
    const at = `${path}[${index}]`;
    const below = listProblem(schema?.items, item, at);
    if (below !== undefined) return below;
    if (shape.kind === 'atomic') continue;
    const element = itemElement(shape, schema?.items, item);
    if (element === undefined) {
      const keys = shape.kind === 'map' ? shape.keys.join(', ') : '';
      return `${path}: element ${index}: associative list with keys has an element that omits key field ${JSON.stringify(keys)} (and doesn't have default value)`;
    }
    if (seen.has(element)) return `${path}: duplicate entries for key ${element.slice(2)}`;
    seen.add(element);
  }
  return undefined;
}
