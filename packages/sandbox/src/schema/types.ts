/** A JSON object as it came from outside: its keys are a stranger's, so read them with `own` and write them with `put`. */
export type JsonObject = Record<string, unknown>;

/**
 * The subset of OpenAPI v3 that Kubernetes calls a structural schema, with the extensions that say how lists and maps
 * merge (https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy).
 */
export interface JsonSchema {
  readonly type?: string;
  readonly format?: string;
  readonly title?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly example?: unknown;
  readonly nullable?: boolean;
  readonly enum?: readonly unknown[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly additionalProperties?: boolean | JsonSchema;
  readonly items?: JsonSchema;
  readonly required?: readonly string[];
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: boolean;
  readonly exclusiveMaximum?: boolean;
  readonly multipleOf?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly uniqueItems?: boolean;
  readonly minProperties?: number;
  readonly maxProperties?: number;
  readonly oneOf?: readonly JsonSchema[];
  readonly anyOf?: readonly JsonSchema[];
  readonly allOf?: readonly JsonSchema[];
  readonly not?: JsonSchema;
  readonly 'x-kubernetes-preserve-unknown-fields'?: boolean;
  readonly 'x-kubernetes-int-or-string'?: boolean;
  readonly 'x-kubernetes-embedded-resource'?: boolean;
  readonly 'x-kubernetes-list-type'?: 'atomic' | 'set' | 'map';
  readonly 'x-kubernetes-list-map-keys'?: readonly string[];
  readonly 'x-kubernetes-map-type'?: 'atomic' | 'granular';
  /** Rules in CEL: carried to clients, not evaluated. */
  readonly 'x-kubernetes-validations'?: readonly unknown[];
  readonly 'x-kubernetes-patch-strategy'?: string;
  readonly 'x-kubernetes-patch-merge-key'?: string;
  /** Name of the Kubernetes type this stands for; absent in the schema of a custom resource. */
  readonly definition?: string;
}

/** Reasons of Kubernetes' `StatusCause` for a field. */
export type FieldErrorReason =
  | 'FieldValueRequired'
  | 'FieldValueInvalid'
  | 'FieldValueTypeInvalid'
  | 'FieldValueNotSupported'
  | 'FieldValueDuplicate'
  | 'FieldValueForbidden'
  | 'FieldValueTooLong'
  | 'FieldValueTooMany';

/** One thing wrong with an object: `message` as the API server words a `StatusCause`, without the field's name. */
export interface FieldError {
  readonly field: string;
  readonly reason: FieldErrorReason;
  readonly message: string;
}

/** Why a patch was refused; `status` is the HTTP status the API server answers with. */
export interface PatchRejected {
  readonly code: 'patch/malformed' | 'patch/path' | 'patch/test-failed' | 'patch/too-large';
  readonly status: 400 | 413 | 422;
  readonly message: string;
}

/** One line of `metadata.managedFields`. */
export interface ManagedFieldsEntry {
  readonly manager: string;
  readonly operation: 'Apply' | 'Update';
  readonly apiVersion: string;
  readonly time?: string;
  readonly fieldsType: 'FieldsV1';
  readonly fieldsV1: JsonObject;
  readonly subresource?: string;
}

/** A field that another manager owns with another value. */
export interface ApplyConflict {
  readonly manager: string;
  readonly operation: 'Apply' | 'Update';
  readonly apiVersion: string;
  readonly subresource?: string;
  /** `.spec.template.spec.containers[name="web"].image` */
  readonly field: string;
  /** `conflict with "kubectl-edit" using apps/v1` */
  readonly message: string;
}
