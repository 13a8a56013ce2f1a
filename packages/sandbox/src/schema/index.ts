export { builtinKinds, builtinSchema, definitionOf, resourceSchema } from './builtin.ts';
export { applyJsonPatch, maxJsonPatchOperations } from './json-patch.ts';
export { applyMergePatch } from './merge-patch.ts';
export { applyStrategicMergePatch } from './strategic-merge.ts';
export type { ApplyRejected, ApplyRequest, UpdateRequest } from './server-side-apply.ts';
export { conflictMessage, serverSideApply, trackUpdate } from './server-side-apply.ts';
export { applyDefaults, dropNulls, pruneUnknown, unknownFields } from './prune.ts';
export { maxFieldErrors, validateObject } from './validate.ts';
export { clone, deepEqual, isObject, own, put } from './json.ts';
export type {
  ApplyConflict,
  FieldError,
  FieldErrorReason,
  JsonObject,
  JsonSchema,
  ManagedFieldsEntry,
  PatchRejected,
} from './types.ts';
export type { OpenApiInput, ServedResource } from './openapi.ts';
export { openApiV2, openApiV3, openApiV3Index } from './openapi.ts';
export { validateCrd } from './validate-crd.ts';
export { validateBuiltin, validateMetadata } from './validate-builtin.ts';
