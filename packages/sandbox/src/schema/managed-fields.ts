import { canonical, clone, isObject, own } from './json.ts';
import type { FieldSet } from './field-set.ts';
import {
  difference,
  emptySet,
  fromFieldsV1,
  isEmptySet,
  toFieldsV1,
  union,
  withoutSubtree,
} from './field-set.ts';
import type { JsonObject, ManagedFieldsEntry } from './types.ts';

/** A manager with the fields it owns. */
export interface Manager {
  readonly manager: string;
  readonly operation: 'Apply' | 'Update';
  readonly apiVersion: string;
  readonly subresource?: string;
  readonly time?: string;
  readonly fields: FieldSet;
}

export type Managers = Map<string, Manager>;

/** Managers that only update are folded into one beyond this number, oldest first, as in the API server. */
export const maxUpdateManagers = 10;
const ancient = 'ancient-changes';

/** One manager is one line of managedFields: an applier keeps its line whatever version it applies with. */
export function managerId(manager: Omit<Manager, 'fields' | 'time'>): string {
  const { operation, apiVersion, subresource = '' } = manager;
  const version = operation === 'Apply' ? '' : apiVersion;
  return canonical([manager.manager, operation, version, subresource]);
}

export function managersOf(object: JsonObject | undefined): Managers {
  const managers: Managers = new Map();
  const lines = own(own(object, 'metadata'), 'managedFields');
  for (const line of Array.isArray(lines) ? lines : []) {
    const manager = parseLine(line);
    if (manager !== undefined) managers.set(managerId(manager), manager);
  }
  return managers;
}

function parseLine(line: unknown): Manager | undefined {
  const operation = own(line, 'operation');
  const manager = own(line, 'manager');
  const apiVersion = own(line, 'apiVersion');
  if (operation !== 'Apply' && operation !== 'Update') return undefined;
  if (typeof apiVersion !== 'string') return undefined;
  const subresource = own(line, 'subresource');
  const time = own(line, 'time');
  return {
    manager: typeof manager === 'string' ? manager : '',
    operation,
    apiVersion,
    ...(typeof subresource === 'string' && subresource !== '' ? { subresource } : {}),
    ...(typeof time === 'string' ? { time } : {}),
    fields: fromFieldsV1(own(line, 'fieldsV1')),
  };
}

const unmanaged = [
  ['f:apiVersion'],
  ['f:kind'],
  ...['name', 'namespace', 'creationTimestamp', 'selfLink', 'uid', 'generation'].map((field) => [
    'f:metadata',
    `f:${field}`,
  ]),
  ...['resourceVersion', 'managedFields', 'generateName'].map((field) => [
    'f:metadata',
    `f:${field}`,
  ]),
];

/** Without what names an object or belongs to the server: nobody manages that. */
export function withoutIdentity(set: FieldSet, alsoIgnored: readonly Path[] = []): FieldSet {
  let out = set;
  for (const path of [...unmanaged, ...alsoIgnored]) out = withoutSubtree(out, path);
  const members = new Set(out.members);
  members.delete('f:metadata');
  return { members, children: out.children };
}

type Path = readonly string[];

/** Takes fields from every manager but `except`; managers that own nothing more are gone. */
export function takeFields(managers: Managers, except: string, taken: FieldSet): Managers {
  const left: Managers = new Map();
  for (const [id, manager] of managers) {
    const fields = id === except ? manager.fields : difference(manager.fields, taken);
    if (!isEmptySet(fields)) left.set(id, { ...manager, fields });
  }
  return left;
}

/** The object with `metadata.managedFields` set to these managers, or without it when there are none. */
export function withManagers(object: JsonObject, managers: Managers): JsonObject {
  const lines = [...capped(managers).values()].sort(byOrder).map(toLine);
  const copy = clone(object);
  const metadata: JsonObject = isObject(copy['metadata']) ? copy['metadata'] : {};
  delete metadata['managedFields'];
  if (lines.length > 0) metadata['managedFields'] = lines;
  copy['metadata'] = metadata;
  return copy;
}

/** The object as its owner wrote it: without managedFields. */
export function withoutManagers(object: JsonObject): JsonObject {
  const copy = clone(object);
  if (isObject(copy['metadata'])) delete copy['metadata']['managedFields'];
  return copy;
}

function toLine({ fields, time, ...rest }: Manager): ManagedFieldsEntry {
  return {
    ...rest,
    ...(time === undefined ? {} : { time }),
    fieldsType: 'FieldsV1',
    fieldsV1: toFieldsV1(fields),
  };
}

function orderKey(manager: Manager): string {
  const { operation, time = '', apiVersion, subresource = '' } = manager;
  return [operation, time, manager.manager, apiVersion, subresource].join('\u0000');
}

function byOrder(left: Manager, right: Manager): number {
  const [a, b] = [orderKey(left), orderKey(right)];
  return a < b ? -1 : a > b ? 1 : 0;
}

function capped(managers: Managers): Managers {
  const updaters = [...managers].filter(([, manager]) => manager.operation === 'Update');
  const excess = updaters.length - maxUpdateManagers;
  if (excess <= 0) return managers;
  const oldest = updaters.sort(([, a], [, b]) => byOrder(a, b)).slice(0, excess + 1);
  const left: Managers = new Map(managers);
  for (const [id, manager] of oldest) {
    left.delete(id);
    const { operation, apiVersion } = manager;
    const time = manager.time === undefined ? {} : { time: manager.time };
    const folded = { manager: ancient, operation, apiVersion, ...time };
    const into = managerId(folded);
    const fields = union(left.get(into)?.fields ?? emptySet(), manager.fields);
    left.set(into, { ...folded, fields });
  }
  return left;
}
