import { badRequest, invalid } from './errors.ts';
import type { FieldProblem } from './errors.ts';
import type { JsonObject, KubeObject } from './object.ts';
import { isObject } from './object.ts';
import type { JsonSchema } from '../schema/index.ts';
import {
  applyDefaults,
  builtinSchema,
  pruneUnknown,
  resourceSchema,
  unknownFields,
  validateBuiltin,
  validateCrd,
  validateObject,
} from '../schema/index.ts';
import type { ResourceDefinition } from './registry.ts';
import { joinApiVersion } from './registry.ts';

/** The object in a served version: conversion between versions is `None`, so only its name changes. */
export function asVersion(
  object: KubeObject,
  definition: ResourceDefinition,
  version: string,
): KubeObject {
  const apiVersion = joinApiVersion(definition.key.group, version);
  return object.apiVersion === apiVersion ? object : { ...object, apiVersion };
}

export function schemaOf(definition: ResourceDefinition, version: string): JsonSchema | undefined {
  const { group } = definition.key;
  if (!definition.custom) return builtinSchema(group, version, definition.kind);
  return definition.versions.find(({ name }) => name === version)?.schema;
}

/** What a client does about fields that the schema does not have. */
export type FieldValidation = 'Strict' | 'Warn' | 'Ignore';

export interface Admitted {
  readonly object: KubeObject;
  readonly warnings: readonly string[];
}

/** Where an object goes, and what the client said about it. */
export interface Destination {
  readonly definition: ResourceDefinition;
  readonly version: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly validation: FieldValidation;
}

/**
 * Checks what a client sent and brings it into the form that is stored: kind and name agree with the path, unknown
 * fields are refused, told or dropped, a schema's defaults are filled in.
 * @throws ApiError BadRequest or Invalid
 */
export function admit(given: JsonObject, to: Destination): Admitted {
  const { definition, version } = to;
  const schema = resourceSchema(schemaOf(definition, version));
  const object = identified(given, to);
  const warnings = checkFields(object, to);
  const pruned = pruneUnknown(schema, object);
  const whole = definition.custom ? applyDefaults(schema, pruned) : pruned;
  const problems = problemsOf(whole, definition, schema);
  if (problems.length > 0) {
    const kind = { group: definition.key.group, kind: definition.kind };
    throw invalid(kind, whole.metadata.name, problems);
  }
  return { object: whole, warnings };
}

/**
 * Tells or refuses fields that the schema does not have.
 * @returns warnings for the client
 * @throws ApiError BadRequest
 */
export function checkFields(
  object: JsonObject,
  { definition, version, validation }: Destination,
): readonly string[] {
  const schema = resourceSchema(schemaOf(definition, version));
  const unknown = unknownFields(schema, object).map((field) => `unknown field "${field}"`);
  if (unknown.length === 0 || validation === 'Ignore') return [];
  if (validation === 'Warn') return unknown;
  throw badRequest(
    `${definition.kind} in version "${version}" cannot be handled as a ${definition.kind}: strict decoding error: ${unknown.join(', ')}`,
  );
}

function problemsOf(
  object: KubeObject,
  definition: ResourceDefinition,
  schema: JsonSchema | undefined,
): readonly FieldProblem[] {
  const { key, kind } = definition;
  if (definition.custom) return validateObject(schema, object);
  if (kind === 'CustomResourceDefinition') return validateCrd(object);
  const structural = validateObject(schema, object).filter(
    ({ field }) => !field.startsWith('status'),
  );
  return structural.length > 0 ? structural : validateBuiltin(key.group, kind, object);
}

function identified(given: JsonObject, to: Destination): KubeObject {
  const { definition, version } = to;
  const apiVersion = joinApiVersion(definition.key.group, version);
  const kind = given['kind'] ?? definition.kind;
  if (kind !== definition.kind || (given['apiVersion'] ?? apiVersion) !== apiVersion) {
    throw badRequest(
      `the API version and kind in the data (${String(given['apiVersion'])}, ${JSON.stringify(kind)}) do not match the expected (${apiVersion}, ${definition.kind})`,
    );
  }
  const metadata = placedMetadata(given, to);
  return {
    ...given,
    apiVersion,
    kind: definition.kind,
    metadata: metadata as unknown as KubeObject['metadata'],
  };
}

/** The metadata with name and namespace, which must be those of the path. */
function placedMetadata(
  given: JsonObject,
  { definition, name, namespace }: Destination,
): JsonObject {
  const metadata: JsonObject = isObject(given['metadata']) ? { ...given['metadata'] } : {};
  for (const field of Object.keys(metadata))
    if (metadata[field] === null) Reflect.deleteProperty(metadata, field);
  metadata['name'] ??= name ?? '';
  if (name !== undefined && metadata['name'] !== name) {
    throw badRequest(
      `the name of the object (${String(metadata['name'])}) does not match the name on the URL (${name})`,
    );
  }
  if (!definition.namespaced) {
    delete metadata['namespace'];
    return metadata;
  }
  if ((metadata['namespace'] ?? '') === '') metadata['namespace'] = namespace;
  if (namespace !== undefined && metadata['namespace'] !== namespace) {
    throw badRequest(
      'the namespace of the provided object does not match the namespace sent on the request',
    );
  }
  return metadata;
}
