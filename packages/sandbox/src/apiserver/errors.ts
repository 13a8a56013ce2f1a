import type { JsonObject, ResourceKey } from './object.ts';
import { resourceName } from './object.ts';

export interface StatusCause {
  readonly reason: string;
  readonly message: string;
  readonly field?: string;
}

/** `metav1.Status` of a refusal, as the API's clients read it. */
export interface KubeStatus {
  readonly kind: 'Status';
  readonly apiVersion: 'v1';
  readonly metadata: JsonObject;
  readonly status: 'Failure';
  readonly message: string;
  readonly reason: string;
  readonly code: number;
  readonly details?: JsonObject;
}

/** A refusal of the API: thrown by the store and the handlers, sent to clients as its status. */
export class ApiError extends Error {
  readonly code: string;
  readonly status: KubeStatus;

  constructor(code: number, reason: string, message: string, details?: JsonObject) {
    super(message);
    this.code = `kube/${reason}`;
    this.status = {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message,
      reason,
      ...(details === undefined ? {} : { details }),
      code,
    };
  }
}

/** True for a refusal of the API with this reason, such as `NotFound` or `Conflict`. */
export function isApiError(error: unknown, reason?: string): error is ApiError {
  return error instanceof ApiError && (reason === undefined || error.status.reason === reason);
}

function details(key: ResourceKey, name: string, more: JsonObject = {}): JsonObject {
  return { name, ...(key.group === '' ? {} : { group: key.group }), kind: key.resource, ...more };
}

export function notFound(key: ResourceKey, name: string): ApiError {
  return new ApiError(
    404,
    'NotFound',
    `${resourceName(key)} "${name}" not found`,
    details(key, name),
  );
}

export function alreadyExists(key: ResourceKey, name: string): ApiError {
  return new ApiError(
    409,
    'AlreadyExists',
    `${resourceName(key)} "${name}" already exists`,
    details(key, name),
  );
}

export function conflict(
  key: ResourceKey,
  name: string,
  why: string,
  causes?: readonly StatusCause[],
): ApiError {
  const message = `Operation cannot be fulfilled on ${resourceName(key)} "${name}": ${why}`;
  return new ApiError(
    409,
    'Conflict',
    message,
    details(key, name, causes === undefined ? {} : { causes }),
  );
}

export const modifiedMessage =
  'the object has been modified; please apply your changes to the latest version and try again';

export function applyConflict(message: string, causes: readonly StatusCause[]): ApiError {
  return new ApiError(409, 'Conflict', message, { causes });
}

/** One wrong field, in the words of the API server's field errors. */
export interface FieldProblem {
  readonly field: string;
  /** `FieldValueInvalid`, `FieldValueRequired`, … */
  readonly reason: string;
  /** Without the field's name, such as `Required value: must be given`. */
  readonly message: string;
}

export function required(field: string, hint = ''): FieldProblem {
  return {
    field,
    reason: 'FieldValueRequired',
    message: hint === '' ? 'Required value' : `Required value: ${hint}`,
  };
}

export function invalidValue(field: string, value: unknown, why: string): FieldProblem {
  return {
    field,
    reason: 'FieldValueInvalid',
    message: `Invalid value: ${JSON.stringify(value)}: ${why}`,
  };
}

export function forbiddenField(field: string, why: string): FieldProblem {
  return { field, reason: 'FieldValueForbidden', message: `Forbidden: ${why}` };
}

export function invalid(
  kind: { readonly group: string; readonly kind: string },
  name: string,
  problems: readonly FieldProblem[],
): ApiError {
  const lines = problems.map((problem) => `${problem.field}: ${problem.message}`);
  const what = kind.group === '' ? kind.kind : `${kind.kind}.${kind.group}`;
  const text = lines.length === 1 ? lines.join('') : `[${lines.join(', ')}]`;
  return new ApiError(422, 'Invalid', `${what} "${name}" is invalid: ${text}`, {
    name,
    ...(kind.group === '' ? {} : { group: kind.group }),
    kind: kind.kind,
    causes: problems.map(({ field, reason, message }) => ({ reason, message, field })),
  });
}

export function forbidden(
  key: ResourceKey,
  name: string,
  why: string,
  causes?: readonly StatusCause[],
): ApiError {
  const named = name === '' ? '' : ` "${name}"`;
  const message = `${resourceName(key)}${named} is forbidden: ${why}`;
  return new ApiError(
    403,
    'Forbidden',
    message,
    details(key, name, causes === undefined ? {} : { causes }),
  );
}

export function badRequest(message: string): ApiError {
  return new ApiError(400, 'BadRequest', message);
}

export function unauthorized(): ApiError {
  return new ApiError(401, 'Unauthorized', 'Unauthorized');
}

export function pathNotFound(): ApiError {
  return new ApiError(404, 'NotFound', 'the server could not find the requested resource', {});
}

export function methodNotAllowed(): ApiError {
  return new ApiError(
    405,
    'MethodNotAllowed',
    'the server does not allow this method on the requested resource',
    {},
  );
}

/** The window of remembered changes no longer reaches back to the version a watch or a page asks for. */
export function expired(message: string): ApiError {
  return new ApiError(410, 'Expired', message);
}
