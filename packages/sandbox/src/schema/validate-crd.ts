import { isObject, own } from './json.ts';
import { labelProblem, label1035Problem, subdomainProblem } from './names.ts';
import type { FieldError } from './types.ts';
import { compilePattern, maxPatternLength } from './validate.ts';

const types = new Set(['string', 'number', 'integer', 'boolean', 'array', 'object']);
const listTypes = new Set<unknown>([undefined, 'atomic', 'set', 'map']);
const maxSchemaDepth = 60;

/** What keeps a CustomResourceDefinition from being served; each error names the field and the fix. */
export function validateCrd(crd: unknown): FieldError[] {
  const errors: FieldError[] = [];
  const spec = own(crd, 'spec');
  checkNames(crd, spec, errors);
  if (own(spec, 'scope') !== 'Namespaced' && own(spec, 'scope') !== 'Cluster') {
    const shown = JSON.stringify(own(spec, 'scope') ?? '');
    errors.push({
      field: 'spec.scope',
      reason: 'FieldValueNotSupported',
      message: `Unsupported value: ${shown}: supported values: "Cluster", "Namespaced"`,
    });
  }
  checkVersions(own(spec, 'versions'), errors);
  return errors;
}

function required(field: string, detail = ''): FieldError {
  const message = detail === '' ? 'Required value' : `Required value: ${detail}`;
  return { field, reason: 'FieldValueRequired', message };
}

function invalid(field: string, value: unknown, problem: string): FieldError {
  const message = `Invalid value: ${JSON.stringify(value ?? '').slice(0, 200)}: ${problem}`;
  return { field, reason: 'FieldValueInvalid', message };
}

function checkText(
  value: unknown,
  field: string,
  problemOf: (text: string) => string | undefined,
  errors: FieldError[],
): void {
  if (typeof value !== 'string' || value === '') {
    errors.push(required(field));
    return;
  }
  const problem = problemOf(value);
  if (problem !== undefined) errors.push(invalid(field, value, problem));
}

function checkNames(crd: unknown, spec: unknown, errors: FieldError[]): void {
  const group = own(spec, 'group');
  const names = own(spec, 'names');
  const plural = own(names, 'plural');
  const kind = own(names, 'kind');
  checkText(group, 'spec.group', groupProblem, errors);
  checkText(plural, 'spec.names.plural', label1035Problem, errors);
  const kindProblem = (text: string): string | undefined =>
    label1035Problem(text.toLowerCase()) === undefined
      ? undefined
      : `may have mixed case, but should otherwise match: ${label1035Problem(text.toLowerCase()) ?? ''}`;
  checkText(kind, 'spec.names.kind', kindProblem, errors);
  for (const optional of ['singular', 'listKind']) {
    const value = own(names, optional);
    if (value !== undefined && value !== '')
      checkText(value, `spec.names.${optional}`, kindProblem, errors);
  }
  const shorts = own(names, 'shortNames');
  for (const [index, short] of (Array.isArray(shorts) ? shorts : []).entries()) {
    checkText(short, `spec.names.shortNames[${index}]`, label1035Problem, errors);
  }
  const name = own(own(crd, 'metadata'), 'name');
  if (typeof plural === 'string' && typeof group === 'string' && name !== `${plural}.${group}`) {
    errors.push(invalid('metadata.name', name, 'must be spec.names.plural+"."+spec.group'));
  }
}

function groupProblem(group: string): string | undefined {
  if (!group.includes('.')) return 'should be a domain with at least one dot';
  return subdomainProblem(group);
}

function checkVersions(versions: unknown, errors: FieldError[]): void {
  if (!Array.isArray(versions) || versions.length === 0) {
    errors.push(
      required('spec.versions', 'must have exactly one version marked as storage version'),
    );
    return;
  }
  const names = new Set<unknown>();
  for (const [index, version] of versions.entries()) {
    const field = `spec.versions[${index}]`;
    const name: unknown = own(version, 'name');
    checkText(name, `${field}.name`, (text) => labelProblem(text), errors);
    if (names.has(name)) {
      const message = `Duplicate value: ${JSON.stringify(name)}`;
      errors.push({ field: `${field}.name`, reason: 'FieldValueDuplicate', message });
    }
    names.add(name);
    for (const flag of ['served', 'storage']) {
      if (typeof own(version, flag) !== 'boolean') errors.push(required(`${field}.${flag}`));
    }
    const schema = own(own(version, 'schema'), 'openAPIV3Schema');
    const at = `${field}.schema.openAPIV3Schema`;
    if (isObject(schema)) checkRoot(schema, at, errors);
    else errors.push(required(at, 'schemas are required'));
  }
  const stored = versions.filter((version: unknown) => own(version, 'storage') === true).length;
  if (stored !== 1) {
    const problem = 'must have exactly one version marked as storage version';
    errors.push(invalid('spec.versions', [...names], problem));
  }
}

function checkRoot(schema: Record<string, unknown>, at: string, errors: FieldError[]): void {
  if (schema['type'] !== 'object') {
    errors.push(invalid(`${at}.type`, schema['type'] ?? '', 'must be object at the root'));
  }
  checkSchema(schema, at, 0, errors);
}

function checkSchema(schema: unknown, at: string, depth: number, errors: FieldError[]): void {
  if (!isObject(schema)) {
    errors.push(invalid(at, schema, 'must be a schema: an object with a type'));
    return;
  }
  if (depth > maxSchemaDepth) {
    errors.push(invalid(at, '', `is nested deeper than ${maxSchemaDepth} levels`));
    return;
  }
  checkSchemaType(schema, at, errors);
  checkExtensions(schema, at, errors);
  checkForbidden(schema, at, errors);
  checkBelow(schema, at, depth, errors);
}

function checkSchemaType(schema: Record<string, unknown>, at: string, errors: FieldError[]): void {
  const type = schema['type'];
  const untyped =
    schema['x-kubernetes-int-or-string'] === true ||
    schema['x-kubernetes-preserve-unknown-fields'] === true;
  if (type === undefined || type === '') {
    if (!untyped)
      errors.push(required(`${at}.type`, 'must not be empty for specified object fields'));
  } else if (typeof type !== 'string' || !types.has(type)) {
    const list = [...types].map((one) => JSON.stringify(one)).join(', ');
    errors.push({
      field: `${at}.type`,
      reason: 'FieldValueNotSupported',
      message: `Unsupported value: ${JSON.stringify(type)}: supported values: ${list}`,
    });
  }
  if (type === 'array' && schema['items'] === undefined) {
    errors.push(required(`${at}.items`, 'must be specified'));
  }
}

function checkExtensions(schema: Record<string, unknown>, at: string, errors: FieldError[]): void {
  const listType = schema['x-kubernetes-list-type'];
  if (!listTypes.has(listType)) {
    const problem = 'must be one of atomic, set, map';
    errors.push(invalid(`${at}.x-kubernetes-list-type`, listType, problem));
  }
  const keys = schema['x-kubernetes-list-map-keys'];
  if (listType === 'map' && !(Array.isArray(keys) && keys.length > 0)) {
    const detail = 'must not be empty if x-kubernetes-list-type is map';
    errors.push(required(`${at}.x-kubernetes-list-map-keys`, detail));
  }
  for (const key of listType === 'map' && Array.isArray(keys) ? (keys as unknown[]) : []) {
    checkMapKey(schema['items'], String(key), at, errors);
  }
  const pattern = schema['pattern'];
  if (typeof pattern === 'string' && compilePattern(pattern) === undefined) {
    const problem = `must be a valid regular expression of at most ${maxPatternLength} characters`;
    errors.push(invalid(`${at}.pattern`, pattern, problem));
  }
}

function checkMapKey(items: unknown, key: string, at: string, errors: FieldError[]): void {
  const property = own(own(items, 'properties'), key);
  if (property === undefined) {
    errors.push(
      invalid(
        `${at}.x-kubernetes-list-map-keys`,
        key,
        'entries must all be names of item properties',
      ),
    );
    return;
  }
  const list = own(items, 'required');
  const isRequired = Array.isArray(list) && list.includes(key);
  if (!isRequired && own(property, 'default') === undefined) {
    const detail =
      'this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property';
    errors.push(required(`${at}.items.properties[${key}].default`, detail));
  }
}

const forbidden = [
  '$ref',
  'definitions',
  'dependencies',
  'id',
  'patternProperties',
  'additionalItems',
];

function checkForbidden(schema: Record<string, unknown>, at: string, errors: FieldError[]): void {
  for (const key of forbidden) {
    if (schema[key] === undefined) continue;
    errors.push({
      field: `${at}.${key}`,
      reason: 'FieldValueForbidden',
      message: `Forbidden: ${key} is not supported`,
    });
  }
  if (schema['uniqueItems'] === true) {
    errors.push({
      field: `${at}.uniqueItems`,
      reason: 'FieldValueForbidden',
      message:
        'Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic',
    });
  }
  if (schema['properties'] !== undefined && isObject(schema['additionalProperties'])) {
    errors.push({
      field: `${at}.additionalProperties`,
      reason: 'FieldValueForbidden',
      message: 'Forbidden: additionalProperties and properties are mutual exclusive',
    });
  }
}

function checkBelow(
  schema: Record<string, unknown>,
  at: string,
  depth: number,
  errors: FieldError[],
): void {
  const properties = schema['properties'];
  if (isObject(properties)) {
    for (const [key, property] of Object.entries(properties)) {
      checkSchema(property, `${at}.properties[${key}]`, depth + 1, errors);
    }
  }
  if (schema['items'] !== undefined) checkSchema(schema['items'], `${at}.items`, depth + 1, errors);
  if (isObject(schema['additionalProperties'])) {
    checkSchema(schema['additionalProperties'], `${at}.additionalProperties`, depth + 1, errors);
  }
}
