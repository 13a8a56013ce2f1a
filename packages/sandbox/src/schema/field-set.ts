import { isObject, objectOf } from './json.ts';
import { elementSchema, isNamedField } from './shape.ts';
import type { JsonObject, JsonSchema } from './types.ts';

/**
 * A set of field paths as structured-merge-diff has it: `members` are the paths that end here, `children` those that go on.
 * Path elements are kept in their fieldsV1 spelling: `f:name`, `k:{"name":"web"}`, `v:"x"`, `i:0`.
 */
export interface FieldSet {
  readonly members: Set<string>;
  readonly children: Map<string, FieldSet>;
}

// The depth of objects is bounded by the JSON parser in front; this bounds what a client's own fieldsV1 may hold.
const maxDepth = 200;

export function emptySet(): FieldSet {
  return { members: new Set(), children: new Map() };
}

export function isEmptySet(set: FieldSet): boolean {
  return set.members.size === 0 && [...set.children.values()].every(isEmptySet);
}

export function insert(set: FieldSet, path: readonly string[]): void {
  const last = path.at(-1);
  if (last === undefined) return;
  let at = set;
  for (const element of path.slice(0, -1)) {
    let child = at.children.get(element);
    if (child === undefined) {
      child = emptySet();
      at.children.set(element, child);
    }
    at = child;
  }
  at.members.add(last);
}

function filtered(set: ReadonlySet<string>, keep: (element: string) => boolean): Set<string> {
  return new Set([...set].filter(keep));
}

export function union(left: FieldSet, right: FieldSet): FieldSet {
  const children = new Map(left.children);
  for (const [element, child] of right.children) {
    const mine = children.get(element);
    children.set(element, mine === undefined ? child : union(mine, child));
  }
  return { members: new Set([...left.members, ...right.members]), children };
}

export function difference(left: FieldSet, right: FieldSet): FieldSet {
  const children = new Map<string, FieldSet>();
  for (const [element, child] of left.children) {
    const other = right.children.get(element);
    const rest = other === undefined ? child : difference(child, other);
    if (!isEmptySet(rest)) children.set(element, rest);
  }
  return { members: filtered(left.members, (element) => !right.members.has(element)), children };
}

export function intersection(left: FieldSet, right: FieldSet): FieldSet {
  const children = new Map<string, FieldSet>();
  for (const [element, child] of left.children) {
    const other = right.children.get(element);
    if (other === undefined) continue;
    const shared = intersection(child, other);
    if (!isEmptySet(shared)) children.set(element, shared);
  }
  return { members: filtered(left.members, (element) => right.members.has(element)), children };
}

/** Takes a path and everything below it out of a set. */
export function withoutSubtree(set: FieldSet, path: readonly string[]): FieldSet {
  const [first, ...rest] = path;
  if (first === undefined) return set;
  const members = new Set(set.members);
  const children = new Map(set.children);
  const child = children.get(first);
  if (rest.length === 0) {
    members.delete(first);
    children.delete(first);
  } else if (child !== undefined) {
    const left = withoutSubtree(child, rest);
    if (isEmptySet(left)) children.delete(first);
    else children.set(first, left);
  }
  return { members, children };
}

/** Adds the parents that the schema names, so that an object whose every field goes is removed with them. */
export function withNamedParents(set: FieldSet, schema: JsonSchema | undefined): FieldSet {
  const members = new Set(set.members);
  const children = new Map<string, FieldSet>();
  for (const [element, child] of set.children) {
    if (element.startsWith('f:') && isNamedField(schema, element.slice(2))) members.add(element);
    children.set(element, withNamedParents(child, elementSchema(schema, element)));
  }
  return { members, children };
}

export function* pathsOf(
  set: FieldSet,
  prefix: readonly string[] = [],
): Generator<readonly string[]> {
  for (const element of [...set.members].sort()) yield [...prefix, element];
  for (const [element, child] of set.children) yield* pathsOf(child, [...prefix, element]);
}

/** `metadata.managedFields[].fieldsV1`. */
export function toFieldsV1(set: FieldSet): JsonObject {
  const elements = new Set([...set.members, ...set.children.keys()]);
  const entries: [string, JsonObject][] = [];
  for (const element of [...elements].sort()) {
    const child = set.children.get(element);
    const below = child === undefined ? {} : toFieldsV1(child);
    const isMember = set.members.has(element);
    if (Object.keys(below).length === 0 && !isMember) continue;
    const own = isMember && Object.keys(below).length > 0 ? { '.': {} } : {};
    entries.push([element, { ...own, ...below }]);
  }
  return objectOf(entries);
}

/** Reads fieldsV1; what is no path element is left out. */
export function fromFieldsV1(fields: unknown, depth = 0): FieldSet {
  const set = emptySet();
  if (!isObject(fields) || depth > maxDepth) return set;
  for (const [element, below] of Object.entries(fields)) {
    if (!/^[fkvi]:/.test(element) || !isObject(below)) continue;
    const child = fromFieldsV1(below, depth + 1);
    const hasChildren = !isEmptySet(child);
    if (hasChildren) set.children.set(element, child);
    if (!hasChildren || Object.hasOwn(below, '.')) set.members.add(element);
  }
  return set;
}

/** `.spec.ports[port=80,protocol="TCP"].name`, as kubectl shows a path. */
export function formatPath(path: readonly string[]): string {
  return path.map(formatElement).join('');
}

function formatElement(element: string): string {
  const body = element.slice(2);
  if (element.startsWith('f:')) return `.${body}`;
  if (element.startsWith('v:')) return `[=${body}]`;
  if (element.startsWith('i:')) return `[${body}]`;
  const keys: unknown = JSON.parse(body);
  if (!isObject(keys)) return `[${body}]`;
  const pairs = Object.entries(keys).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return `[${pairs.join(',')}]`;
}
