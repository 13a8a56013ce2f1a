import type { Result } from '@ambit/api';
import { err, ok } from '@ambit/api';
import { canonical, clone, deepEqual, isObject, own, put, remove } from './json.ts';
import { mergedOrder } from './list-order.ts';
import { fieldSchema } from './shape.ts';
import type { JsonObject, JsonSchema, PatchRejected } from './types.ts';

const directive = '$patch';
const retainKeys = '$retainKeys';
const orderPrefix = '$setElementOrder/';
const deletePrefix = '$deleteFromPrimitiveList/';

/** Thrown inside this file alone, so that the recursion stays readable; `applyStrategicMergePatch` turns it into a result. */
class Malformed extends Error {
  readonly code = 'patch/malformed';
}

/**
 * Applies a strategic merge patch and leaves `doc` as it was. Lists with a merge key merge by it, others are replaced;
 * directives: $patch, $retainKeys, $setElementOrder/…, $deleteFromPrimitiveList/….
 * Contract: https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md
 */
export function applyStrategicMergePatch(
  schema: JsonSchema | undefined,
  doc: JsonObject,
  patch: unknown,
): Result<JsonObject, PatchRejected> {
  if (!isObject(patch)) {
    return err({
      code: 'patch/malformed',
      status: 400,
      message: 'a strategic merge patch is an object',
    });
  }
  try {
    return ok(mergeMap(clone(doc), clone(patch), schema));
  } catch (error) {
    if (isObject(error) && error['code'] === 'patch/malformed') {
      return err({ code: 'patch/malformed', status: 400, message: String(error['message']) });
    }
    throw error;
  }
}

function strategies(schema: JsonSchema | undefined): string[] {
  return schema?.['x-kubernetes-patch-strategy']?.split(',') ?? [];
}

function mergesList(schema: JsonSchema | undefined): boolean {
  return strategies(schema).includes('merge');
}

function mergeMap(
  original: JsonObject,
  patch: JsonObject,
  schema: JsonSchema | undefined,
): JsonObject {
  if (Object.hasOwn(patch, directive)) {
    const kind = patch[directive];
    remove(patch, directive);
    if (kind === 'replace') return patch;
    if (kind === 'delete') return {};
    throw new Malformed(`unknown patch type: ${JSON.stringify(kind)}: use "replace" or "delete"`);
  }
  retain(original, patch);
  mergeOrderedLists(original, patch, schema);
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith(deletePrefix)) deletePrimitives(original, key, value);
    else mergeField(original, key, value, fieldSchema(schema, key));
  }
  return original;
}

function mergeField(
  original: JsonObject,
  key: string,
  value: unknown,
  schema: JsonSchema | undefined,
): void {
  if (value === null) {
    remove(original, key);
    return;
  }
  const current = own(original, key);
  if (isObject(current) && isObject(value)) {
    const replaces = strategies(schema).includes('replace');
    put(original, key, replaces ? withoutDirectives(value) : mergeMap(current, value, schema));
  } else if (Array.isArray(current) && Array.isArray(value)) {
    put(original, key, mergesList(schema) ? mergeList(current, value, schema) : value);
  } else {
    put(original, key, withoutDirectives(value));
  }
}

/** `$retainKeys` lists what may be left: everything else of the original goes, and the patch may set nothing else. */
function retain(original: JsonObject, patch: JsonObject): void {
  const keys = own(patch, retainKeys);
  if (keys === undefined) return;
  remove(patch, retainKeys);
  if (!Array.isArray(keys)) throw new Malformed(`${retainKeys} must be a list of field names`);
  const kept = new Set<unknown>(keys);
  for (const key of Object.keys(patch)) {
    if (!kept.has(key) && !key.startsWith('$')) {
      throw new Malformed(`${key} is in the patch but not in its ${retainKeys} list`);
    }
  }
  for (const key of Object.keys(original)) if (!kept.has(key)) remove(original, key);
}

function deletePrimitives(original: JsonObject, key: string, gone: unknown): void {
  if (!Array.isArray(gone)) throw new Malformed(`${key} must be a list`);
  const field = key.slice(deletePrefix.length);
  const list = own(original, field);
  if (!Array.isArray(list)) return;
  const left = list.filter((item: unknown) => !gone.some((value) => deepEqual(value, item)));
  put(original, field, left);
}

function mergeOrderedLists(
  original: JsonObject,
  patch: JsonObject,
  schema: JsonSchema | undefined,
): void {
  for (const [key, order] of Object.entries(patch)) {
    if (!key.startsWith(orderPrefix)) continue;
    remove(patch, key);
    if (!Array.isArray(order)) throw new Malformed(`${key} must be a list`);
    const field = key.slice(orderPrefix.length);
    const sub = fieldSchema(schema, field);
    const current = own(original, field);
    const added = own(patch, field);
    const mergeKey = sub?.['x-kubernetes-patch-merge-key'];
    if (Array.isArray(added)) checkOrder(field, added, order, mergeKey);
    const merged = mergedForOrder(current, added, sub);
    if (merged === undefined) continue;
    const before = Array.isArray(current) ? current : [];
    put(original, field, mergedOrder({ merged, order, before, same: sameBy(mergeKey) }));
    remove(patch, field);
  }
}

function mergedForOrder(
  current: unknown,
  added: unknown,
  schema: JsonSchema | undefined,
): unknown[] | undefined {
  if (isList(current) && isList(added)) {
    return mergesList(schema) ? mergeList([...current], added, schema) : added;
  }
  if (isList(current)) return current;
  if (!isList(added)) return undefined;
  const plain = withoutDirectives(added);
  return Array.isArray(plain) ? plain : undefined;
}

function isList(value: unknown): value is unknown[] {
  return Array.isArray(value);
}

function checkOrder(
  field: string,
  added: readonly unknown[],
  order: readonly unknown[],
  mergeKey: string | undefined,
): void {
  const same = sameBy(mergeKey);
  for (const item of added) {
    if (own(item, directive) === 'delete') continue;
    if (!order.some((other) => same(other, item))) {
      throw new Malformed(
        `the list ${field} of the patch has an item that its ${orderPrefix}${field} does not name: ${canonical(item).slice(0, 120)}`,
      );
    }
  }
}

function sameBy(mergeKey: string | undefined): (left: unknown, right: unknown) => boolean {
  if (mergeKey === undefined) return deepEqual;
  return (left, right) => {
    const key = own(left, mergeKey);
    return key !== undefined && deepEqual(key, own(right, mergeKey));
  };
}

function mergeList(
  original: unknown[],
  patch: readonly unknown[],
  schema: JsonSchema | undefined,
): unknown[] {
  if (original.length === 0 && patch.length === 0) return original;
  if (![...original, ...patch].some(isObject)) {
    const merged = withoutDuplicates([...original, ...patch]);
    return mergedOrder({ merged, order: patch, before: original, same: deepEqual });
  }
  const mergeKey = schema?.['x-kubernetes-patch-merge-key'];
  if (mergeKey === undefined) throw new Malformed('cannot merge lists without merge key');
  const { kept, items } = carryOut(original, patch, mergeKey);
  if (kept === undefined) return items;
  const same = sameBy(mergeKey);
  const merged = [...kept];
  for (const item of items) {
    const index = merged.findIndex((other) => same(other, item));
    const current = merged[index];
    if (isObject(current) && isObject(item)) {
      merged[index] = mergeMap(clone(current), clone(item), schema?.items);
    } else {
      merged.push(item);
    }
  }
  return mergedOrder({ merged, order: items, before: kept, same });
}

/** Carries out `$patch` items of a list; `kept` is undefined when the list is replaced as a whole. */
function carryOut(
  original: readonly unknown[],
  patch: readonly unknown[],
  mergeKey: string,
): { readonly kept: unknown[] | undefined; readonly items: unknown[] } {
  let kept: unknown[] = [...original];
  let replaces = false;
  const items: unknown[] = [];
  for (const item of patch) {
    const kind = own(item, directive);
    const key = own(item, mergeKey);
    if (kind === 'replace') {
      replaces = true;
    } else if (kind === 'delete') {
      if (key === undefined) throw new Malformed(`$patch: delete needs the merge key ${mergeKey}`);
      kept = kept.filter((other) => !deepEqual(own(other, mergeKey), key));
    } else if (kind !== undefined) {
      throw new Malformed(`$patch: ${canonical(kind)} is not for lists: use "delete" or "replace"`);
    } else if (key === undefined) {
      throw new Malformed(
        `map: ${canonical(item).slice(0, 200)} does not contain declared merge key: ${mergeKey}`,
      );
    } else {
      items.push(item);
    }
  }
  return { kept: replaces ? undefined : kept, items };
}

function withoutDuplicates(list: readonly unknown[]): unknown[] {
  return [...new Map(list.map((item) => [canonical(item), item])).values()];
}

/** A patch taken as the value: directives and nulls mean nothing where there is nothing to patch. */
function withoutDirectives(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value
      .filter((item: unknown) => !(isObject(item) && Object.hasOwn(item, directive)))
      .map(withoutDirectives);
  }
  if (!isObject(value)) return value;
  const plain: JsonObject = {};
  for (const [key, member] of Object.entries(value)) {
    const isDirective =
      key === directive ||
      key === retainKeys ||
      key.startsWith(orderPrefix) ||
      key.startsWith(deletePrefix);
    if (!isDirective && member !== null) put(plain, key, withoutDirectives(member));
  }
  return plain;
}
