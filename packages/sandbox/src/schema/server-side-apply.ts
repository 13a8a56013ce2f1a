import type { Result } from '@ambit/api';
import { err, ok } from '@ambit/api';
import { resourceSchema } from './builtin.ts';
import { deepEqual, isObject, own } from './json.ts';
import type { FieldSet } from './field-set.ts';
import {
  difference,
  emptySet,
  formatPath,
  intersection,
  isEmptySet,
  pathsOf,
  toFieldsV1,
  union,
  withNamedParents,
} from './field-set.ts';
import type { Manager, Managers } from './managed-fields.ts';
import {
  managerId,
  managersOf,
  takeFields,
  withManagers,
  withoutIdentity,
  withoutManagers,
} from './managed-fields.ts';
import { dropNulls } from './prune.ts';
import {
  compare,
  fieldsOf,
  listProblem,
  mergeValues,
  restoreEmptied,
  withoutFields,
} from './typed-value.ts';
import type { ApplyConflict, JsonObject, JsonSchema } from './types.ts';

export interface ApplyRequest {
  /** The object as it is stored; absent when the apply creates it. */
  readonly live?: JsonObject | undefined;
  readonly applied: JsonObject;
  readonly manager: string;
  readonly force: boolean;
  readonly schema: JsonSchema | undefined;
  readonly apiVersion: string;
  readonly subresource?: string | undefined;
  /** The time of the request, RFC 3339 without fractions. */
  readonly now: string;
  /** Fields this endpoint does not set, as member names: [['status']] on the main resource when it has a status subresource. */
  readonly ignored?: readonly (readonly string[])[];
}

/** Why an apply was refused: `conflicts` is empty unless the status is 409. */
export interface ApplyRejected {
  readonly code: 'apply/conflict' | 'apply/malformed';
  readonly status: 400 | 409;
  readonly message: string;
  readonly conflicts: readonly ApplyConflict[];
}

export interface UpdateRequest {
  /** The object as it is stored; absent when it is being created. */
  readonly before?: JsonObject | undefined;
  readonly after: JsonObject;
  readonly manager: string;
  readonly schema: JsonSchema | undefined;
  readonly apiVersion: string;
  readonly subresource?: string | undefined;
  readonly operation?: 'Update';
  readonly now: string;
  readonly ignored?: readonly (readonly string[])[];
}

/**
 * Merges what a manager applies into the live object: fields it applied before and applies no more are removed unless
 * another manager owns them; a field that another manager owns with another value is a conflict unless forced.
 * Contract: https://kubernetes.io/docs/reference/using-api/server-side-apply/
 */
export function serverSideApply(request: ApplyRequest): Result<JsonObject, ApplyRejected> {
  const { live, subresource } = request;
  const schema = resourceSchema(request.schema);
  const applied = schema?.definition === undefined ? request.applied : dropNulls(request.applied);
  const problem = appliedProblem(schema, applied);
  if (problem !== undefined) {
    return err({ code: 'apply/malformed', status: 400, message: problem, conflicts: [] });
  }
  const bare = live === undefined ? {} : withoutManagers(live);
  const managers = liveManagers({ ...request, schema }, bare);
  const ignored = fieldPaths(request.ignored);
  const me: Manager = {
    manager: request.manager,
    operation: 'Apply',
    apiVersion: request.apiVersion,
    ...(subresource === undefined || subresource === '' ? {} : { subresource }),
    time: request.now,
    fields: withoutIdentity(fieldsOf(schema, applied), ignored),
  };
  const id = managerId(me);
  const last = managers.get(id);
  managers.set(id, sameFields(last, me) ? { ...me, time: last?.time ?? request.now } : me);

  const merged = mergeValues(schema, bare, applied);
  const pruned = last === undefined ? merged : prune(schema, merged, last.fields, managers);
  const next = isObject(pruned) ? pruned : {};
  const changes = compare(schema, bare, next);
  const changed = union(changes.modified, changes.added);
  const conflicts = conflictsOf(managers, id, changed);
  if (conflicts.length > 0 && !request.force) {
    return err({
      code: 'apply/conflict',
      status: 409,
      message: conflictMessage(conflicts),
      conflicts,
    });
  }
  const left = takeFields(managers, id, union(changed, changes.removed));
  if (isEmptySet(me.fields)) left.delete(id);
  return ok(withManagers(next, left));
}

function appliedProblem(schema: JsonSchema | undefined, applied: JsonObject): string | undefined {
  const managed = own(own(applied, 'metadata'), 'managedFields');
  if (managed !== undefined && !(Array.isArray(managed) && managed.length === 0)) {
    return 'metadata.managedFields must be nil';
  }
  const problem = listProblem(schema, applied);
  return problem === undefined ? undefined : `failed to create typed patch object: ${problem}`;
}

/** An object that nobody's ownership was recorded of belongs to `before-first-apply`, so an apply cannot take it silently. */
function liveManagers(request: ApplyRequest, bare: JsonObject): Managers {
  const managers = managersOf(request.live);
  if (request.live === undefined || managers.size > 0) return managers;
  const before: Manager = {
    manager: 'before-first-apply',
    operation: 'Update',
    apiVersion: request.apiVersion,
    time: request.now,
    fields: withoutIdentity(fieldsOf(request.schema, bare), fieldPaths(request.ignored)),
  };
  if (!isEmptySet(before.fields)) managers.set(managerId(before), before);
  return managers;
}

function sameFields(left: Manager | undefined, right: Manager): boolean {
  return left !== undefined && deepEqual(toFieldsV1(left.fields), toFieldsV1(right.fields));
}

function fieldPaths(paths: readonly (readonly string[])[] = []): string[][] {
  return paths.map((path) => path.map((name) => `f:${name}`));
}

/** Removes what the manager applied last time and nobody owns now. */
function prune(
  schema: JsonSchema | undefined,
  merged: unknown,
  last: FieldSet,
  managers: Managers,
): unknown {
  const lastNamed = withNamedParents(last, schema);
  const named = (value: unknown): FieldSet =>
    withNamedParents(fieldsOf(schema, value ?? {}), schema);
  const mergedSet = named(merged);
  const bare = withoutFields(schema, merged, lastNamed);
  const owned = [...managers.values()].reduce(
    (all, manager) => union(all, withNamedParents(manager.fields, schema)),
    emptySet(),
  );
  const unowned = difference(mergedSet, union(named(bare), owned));
  const kept = withoutFields(schema, merged, unowned);
  const dangling = intersection(difference(mergedSet, named(kept)), lastNamed);
  return restoreEmptied(schema, merged, withoutFields(schema, merged, dangling));
}

function conflictsOf(managers: Managers, me: string, changed: FieldSet): ApplyConflict[] {
  const conflicts: ApplyConflict[] = [];
  for (const [id, manager] of managers) {
    if (id === me) continue;
    for (const path of pathsOf(intersection(manager.fields, changed))) {
      conflicts.push(conflictWith(manager, path));
    }
  }
  return conflicts;
}

function conflictWith(manager: Manager, path: readonly string[]): ApplyConflict {
  const { operation, apiVersion, subresource } = manager;
  return {
    manager: manager.manager,
    operation,
    apiVersion,
    ...(subresource === undefined ? {} : { subresource }),
    field: formatPath(path),
    message: `conflict with ${describe(manager)}`,
  };
}

function describe(
  manager: Pick<ApplyConflict, 'manager' | 'operation' | 'apiVersion' | 'subresource'>,
): string {
  const sub =
    manager.subresource === undefined
      ? ''
      : ` with subresource ${JSON.stringify(manager.subresource)}`;
  const using = manager.operation === 'Update' ? ` using ${manager.apiVersion}` : '';
  return `${JSON.stringify(manager.manager)}${sub}${using}`;
}

/** The message of the 409, as kubectl prints it. */
export function conflictMessage(conflicts: readonly ApplyConflict[]): string {
  const [first] = conflicts;
  if (conflicts.length === 1 && first !== undefined) {
    return `Apply failed with 1 conflict: ${first.message}: ${first.field}`;
  }
  const byManager = new Map<string, string[]>();
  for (const conflict of conflicts) {
    const who = describe(conflict);
    byManager.set(who, [...(byManager.get(who) ?? []), conflict.field]);
  }
  const lines = [...byManager].map(([who, fields]) =>
    [`conflicts with ${who}:`, ...fields.map((field) => `- ${field}`)].join('\n'),
  );
  return `Apply failed with ${conflicts.length} conflicts: ${lines.join('\n')}`;
}

/**
 * The object to store after a create, update or patch by `manager`: what changed is now its own, and taken from all others.
 * A client that sends `managedFields: []` resets them.
 */
export function trackUpdate(request: UpdateRequest): JsonObject {
  const { before, after, subresource, now } = request;
  const schema = resourceSchema(request.schema);
  const sent = own(own(after, 'metadata'), 'managedFields');
  const managers = managersOf(sent === undefined || sent === null ? before : after);
  const next = withoutManagers(after);
  const previous = before === undefined ? blank(schema) : withoutManagers(before);
  const changes = compare(schema, previous, next);
  const gained = withoutIdentity(
    union(changes.added, changes.modified),
    fieldPaths(request.ignored),
  );
  const left = takeFields(managers, '', union(gained, changes.removed));
  if (isEmptySet(gained)) return withManagers(next, left);
  const me: Manager = {
    manager: request.manager,
    operation: 'Update',
    apiVersion: request.apiVersion,
    ...(subresource === undefined || subresource === '' ? {} : { subresource }),
    time: now,
    fields: gained,
  };
  const id = managerId(me);
  const mine = left.get(id);
  left.set(id, mine === undefined ? me : { ...me, fields: union(mine.fields, gained) });
  return withManagers(next, left);
}

/** What a kind of Go's has before anything is set: its structs are there, so nobody comes to own them as such. */
function blank(schema: JsonSchema | undefined): JsonObject {
  if (schema?.definition === undefined) return { metadata: {} };
  return { metadata: {}, spec: {}, status: {} };
}
