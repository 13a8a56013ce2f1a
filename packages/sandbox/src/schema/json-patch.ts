import type { Result } from '@ambit/api';
import { err, ok } from '@ambit/api';
import { clone, deepEqual, isObject, own, put, remove } from './json.ts';
import type { PatchRejected } from './types.ts';

/** The API server's own limit on the operations of one patch. */
export const maxJsonPatchOperations = 10_000;

type Outcome = Result<unknown, PatchRejected>;

interface Operation {
  readonly op: string;
  readonly path: string;
  readonly from?: string;
  readonly value?: unknown;
}

/**
 * Applies an RFC 6902 patch and leaves `doc` as it was. All or nothing: the first operation that fails is named with its
 * index and path.
 */
export function applyJsonPatch(doc: unknown, ops: unknown): Outcome {
  if (!Array.isArray(ops)) {
    return malformed('a JSON patch is an array of operations, each with "op" and "path"');
  }
  if (ops.length > maxJsonPatchOperations) {
    return err({
      code: 'patch/too-large',
      status: 413,
      message: `the allowed maximum operations in a JSON patch is ${maxJsonPatchOperations}, got ${ops.length}`,
    });
  }
  let current: unknown = clone(doc);
  for (const [index, raw] of ops.entries()) {
    const operation = parseOperation(raw, index);
    if (!operation.ok) return operation;
    const next = applyOperation(current, operation.value);
    if (!next.ok) {
      const message = `operation ${index} (${operation.value.op} ${JSON.stringify(operation.value.path)}): ${next.error.message}`;
      return err({ ...next.error, message });
    }
    current = next.value;
  }
  return ok(current);
}

function malformed(message: string): Result<never, PatchRejected> {
  return err({ code: 'patch/malformed', status: 400, message });
}

function badPath(message: string): Result<never, PatchRejected> {
  return err({ code: 'patch/path', status: 422, message });
}

function parseOperation(raw: unknown, index: number): Result<Operation, PatchRejected> {
  const op = own(raw, 'op');
  const path = own(raw, 'path');
  if (typeof op !== 'string' || typeof path !== 'string') {
    return malformed(`operation ${index} needs the strings "op" and "path"`);
  }
  if (path !== '' && !path.startsWith('/')) {
    return malformed(`operation ${index}: path ${JSON.stringify(path)} must begin with "/"`);
  }
  const from = own(raw, 'from');
  if ((op === 'move' || op === 'copy') && typeof from !== 'string') {
    return malformed(`operation ${index} (${op}) needs the string "from"`);
  }
  const needsValue = op === 'add' || op === 'replace' || op === 'test';
  if (needsValue && !(isObject(raw) && Object.hasOwn(raw, 'value'))) {
    return malformed(`operation ${index} (${op} ${JSON.stringify(path)}) needs a "value"`);
  }
  return ok({
    op,
    path,
    value: own(raw, 'value'),
    ...(typeof from === 'string' ? { from } : {}),
  });
}

function tokens(pointer: string): string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function applyOperation(doc: unknown, operation: Operation): Outcome {
  const { op, path, from = '', value } = operation;
  switch (op) {
    case 'add':
      return add(doc, path, clone(value));
    case 'remove':
      return removeAt(doc, path);
    case 'replace':
      return replace(doc, path, clone(value));
    case 'move':
      return move(doc, from, path);
    case 'copy': {
      const source = read(doc, from);
      return source.ok ? add(doc, path, clone(source.value)) : source;
    }
    case 'test': {
      const found = read(doc, path);
      if (found.ok && deepEqual(found.value, value)) return ok(doc);
      return err({
        code: 'patch/test-failed',
        status: 422,
        message: `the value there is ${found.ok ? preview(found.value) : 'missing'}, not ${preview(value)}`,
      });
    }
    default:
      return malformed(
        `${JSON.stringify(op.slice(0, 40))} is no operation: use add, remove, replace, move, copy or test`,
      );
  }
}

function preview(value: unknown): string {
  return JSON.stringify(value).slice(0, 120);
}

/** Index of a list element; `end` allows the place after the last. */
function indexOf(list: readonly unknown[], token: string, end: boolean): number | undefined {
  if (token === '-') return end ? list.length : undefined;
  if (!/^(?:0|[1-9]\d{0,9})$/.test(token)) return undefined;
  const index = Number(token);
  return index < list.length + (end ? 1 : 0) ? index : undefined;
}

function step(value: unknown, token: string): Outcome {
  if (Array.isArray(value)) {
    const index = indexOf(value, token, false);
    return index === undefined
      ? badPath(`there is no element ${JSON.stringify(token)} in a list of ${value.length}`)
      : ok(value[index]);
  }
  if (isObject(value) && Object.hasOwn(value, token)) return ok(value[token]);
  return badPath(`there is no ${JSON.stringify(token)}: add the object that holds it first`);
}

function read(doc: unknown, pointer: string): Outcome {
  let value = doc;
  for (const token of tokens(pointer)) {
    const next = step(value, token);
    if (!next.ok) return next;
    value = next.value;
  }
  return ok(value);
}

function split(pointer: string): { readonly parent: string; readonly last: string } {
  const cut = pointer.lastIndexOf('/');
  return { parent: pointer.slice(0, cut), last: tokens(pointer).at(-1) ?? '' };
}

function add(doc: unknown, pointer: string, value: unknown): Outcome {
  if (pointer === '') return ok(value);
  const { parent, last } = split(pointer);
  const holder = read(doc, parent);
  if (!holder.ok) return holder;
  if (Array.isArray(holder.value)) {
    const index = indexOf(holder.value, last, true);
    if (index === undefined) {
      return badPath(`${JSON.stringify(last)} is no place in a list of ${holder.value.length}`);
    }
    holder.value.splice(index, 0, value);
    return ok(doc);
  }
  if (!isObject(holder.value)) return badPath('its parent is neither an object nor a list');
  put(holder.value, last, value);
  return ok(doc);
}

function removeAt(doc: unknown, pointer: string): Outcome {
  if (pointer === '') return badPath('the whole document cannot be removed');
  const found = read(doc, pointer);
  if (!found.ok) return found;
  const { parent, last } = split(pointer);
  const holder = read(doc, parent);
  if (!holder.ok) return holder;
  if (Array.isArray(holder.value)) holder.value.splice(Number(last), 1);
  else if (isObject(holder.value)) remove(holder.value, last);
  return ok(doc);
}

function replace(doc: unknown, pointer: string, value: unknown): Outcome {
  if (pointer === '') return ok(value);
  const found = read(doc, pointer);
  if (!found.ok) return found;
  const { parent, last } = split(pointer);
  const holder = read(doc, parent);
  if (!holder.ok) return holder;
  if (Array.isArray(holder.value)) holder.value[Number(last)] = value;
  else if (isObject(holder.value)) put(holder.value, last, value);
  return ok(doc);
}

function move(doc: unknown, from: string, path: string): Outcome {
  if (path === from) return read(doc, from).ok ? ok(doc) : read(doc, from);
  if (path.startsWith(`${from}/`)) return badPath(`${from} cannot be moved into itself`);
  const source = read(doc, from);
  if (!source.ok) return source;
  const without = removeAt(doc, from);
  return without.ok ? add(without.value, path, source.value) : without;
}
