import type { ResourceCall } from './context.ts';
import { ApiError, applyConflict, badRequest } from './errors.ts';
import { decodeText } from './http.ts';
import type { JsonObject, KubeObject } from './object.ts';
import { isObject } from './object.ts';
import { managerOf } from './call.ts';
import type { JsonSchema } from '../schema/index.ts';
import {
  applyJsonPatch,
  applyMergePatch,
  applyStrategicMergePatch,
  conflictMessage,
  serverSideApply,
} from '../schema/index.ts';

/** The object after a JSON, merge or strategic merge patch. @throws ApiError */
export function patchedObject(
  call: ResourceCall,
  live: KubeObject,
  schema: JsonSchema | undefined,
): JsonObject {
  const { contentType, body, definition } = call;
  const sent = decodeText(body.toString('utf8'), 'application/json');
  const patched = ((): unknown => {
    switch (contentType.split(';')[0]) {
      case 'application/json-patch+json':
        return unwrap(applyJsonPatch(live, sent));
      case 'application/merge-patch+json':
        return applyMergePatch(live, sent);
      case 'application/strategic-merge-patch+json':
        if (definition.custom) throw unsupportedPatch(contentType, customPatches);
        return unwrap(applyStrategicMergePatch(schema, live, sent));
      default:
        throw unsupportedPatch(contentType, definition.custom ? customPatches : allPatches);
    }
  })();
  if (!isObject(patched)) throw badRequest('the patch does not leave an object');
  return patched;
}

const customPatches = [
  'application/json-patch+json',
  'application/merge-patch+json',
  'application/apply-patch+yaml',
] as const;
const allPatches = [...customPatches, 'application/strategic-merge-patch+json'] as const;

function unsupportedPatch(contentType: string, accepted: readonly string[]): ApiError {
  return new ApiError(
    415,
    'UnsupportedMediaType',
    `the body of the request was in an unknown format (${contentType}) - accepted media types include: ${accepted.join(', ')}`,
  );
}

type Outcome<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: { readonly status: number; readonly message: string } };

function unwrap<T>(outcome: Outcome<T>): T {
  if (outcome.ok) return outcome.value;
  const { status, message } = outcome.error;
  const reason =
    status === 422 ? 'Invalid' : status === 413 ? 'RequestEntityTooLarge' : 'BadRequest';
  throw new ApiError(status, reason, message);
}

export interface ApplyCall {
  readonly call: ResourceCall;
  readonly live: KubeObject | undefined;
  readonly applied: JsonObject;
  readonly schema: JsonSchema | undefined;
  readonly apiVersion: string;
  readonly ignored: readonly (readonly string[])[];
  readonly now: string;
}

/** The object after a server-side apply. @throws ApiError Conflict that names every owner of a field */
export function applyObject({ call, ...request }: ApplyCall): JsonObject {
  const { query, route } = call;
  if ((query.get('fieldManager') ?? '') === '') {
    throw badRequest('fieldManager: Required value: is required for apply patch');
  }
  const outcome = serverSideApply({
    ...request,
    manager: managerOf(call),
    force: query.get('force') === 'true',
    subresource: route.subresource,
  });
  if (outcome.ok) return outcome.value;
  const { status, message, conflicts } = outcome.error;
  if (status === 400) throw badRequest(message);
  throw applyConflict(
    conflictMessage(conflicts),
    conflicts.map((one) => ({
      reason: 'FieldManagerConflict',
      message: one.message,
      field: one.field,
    })),
  );
}
