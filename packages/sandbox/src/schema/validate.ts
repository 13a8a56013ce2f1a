import { canonical, deepEqual, isObject } from './json.ts';
import { formatProblem } from './formats.ts';
import { fieldSchema, itemElement, listShape } from './shape.ts';
import type { FieldError, FieldErrorReason, JsonSchema } from './types.ts';

/** Errors beyond this are not looked for: one bad object must not make an answer of megabytes. */
export const maxFieldErrors = 100;
/** A pattern longer than this is not compiled (validateCrd refuses it). */
export const maxPatternLength = 1024;
const maxCompiledPatterns = 1000;
const patterns = new Map<string, RegExp | undefined>();

type Report = (reason: FieldErrorReason, message: string, at?: string) => void;

/**
 * Checks an object against its schema, in the API server's words. Required fields, types, enumerations, bounds, formats,
 * patterns, duplicates in sets and keyed lists, allOf/anyOf/oneOf/not. Unknown fields are `unknownFields`' part.
 */
export function validateObject(
  schema: JsonSchema | undefined,
  object: unknown,
  path = '',
): FieldError[] {
  const errors: FieldError[] = [];
  if (schema !== undefined) check(schema, object, path, errors);
  return errors;
}

function check(schema: JsonSchema, value: unknown, path: string, errors: FieldError[]): void {
  if (errors.length >= maxFieldErrors) return;
  const report: Report = (reason, message, at = path) => {
    if (errors.length < maxFieldErrors) errors.push({ field: at, reason, message });
  };
  if (value === null && schema.nullable === true) return;
  if (!checkType(schema, value, path, report)) return;
  checkEnum(schema, value, report);
  if (typeof value === 'string') checkString(schema, value, path, report);
  else if (typeof value === 'number') checkNumber(schema, value, path, report);
  else if (Array.isArray(value)) checkList(schema, value, path, errors, report);
  else if (isObject(value)) checkMap(schema, value, path, errors, report);
  checkCombined(schema, value, path, errors, report);
}

/** The type's name as the API server writes it. */
function typeName(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  return typeof value;
}

function show(value: unknown): string {
  const text = canonical(value);
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

function checkType(schema: JsonSchema, value: unknown, path: string, report: Report): boolean {
  const actual = typeName(value);
  if (schema['x-kubernetes-int-or-string'] === true) {
    const number = schema.format === 'quantity' && actual === 'number';
    if (actual === 'integer' || actual === 'string' || number) return true;
    report(
      'FieldValueTypeInvalid',
      `Invalid value: "${actual}": ${path} in body must be of type integer,string: "${actual}"`,
    );
    return false;
  }
  const wanted = schema.type;
  if (wanted === undefined || wanted === '' || wanted === actual) return true;
  if (wanted === 'number' && actual === 'integer') return true;
  report(
    'FieldValueTypeInvalid',
    `Invalid value: "${actual}": ${path} in body must be of type ${wanted}: "${actual}"`,
  );
  return false;
}

function checkEnum(schema: JsonSchema, value: unknown, report: Report): void {
  const allowed = schema.enum;
  if (allowed === undefined || allowed.some((one) => deepEqual(one, value))) return;
  const list = allowed.map((one) => JSON.stringify(one)).join(', ');
  report('FieldValueNotSupported', `Unsupported value: ${show(value)}: supported values: ${list}`);
}

/** Compiles once; undefined for a pattern that is too long or no pattern, which then is not checked (validateCrd refuses it). */
function compiled(pattern: string): RegExp | undefined {
  if (patterns.has(pattern)) return patterns.get(pattern);
  if (patterns.size >= maxCompiledPatterns) patterns.clear();
  const expression = compilePattern(pattern);
  patterns.set(pattern, expression);
  return expression;
}

/** A user's pattern as a RegExp; undefined when it is none or longer than the limit. */
export function compilePattern(pattern: string): RegExp | undefined {
  if (pattern.length > maxPatternLength) return undefined;
  for (const flags of ['u', '']) {
    try {
      return new RegExp(pattern, flags);
    } catch {
      // Tried again without `u`: Go accepts escapes such as \- that the Unicode mode refuses.
    }
  }
  return undefined;
}

function checkString(schema: JsonSchema, value: string, path: string, report: Report): void {
  const { minLength, maxLength, pattern, format } = schema;
  const length = Array.from(value).length;
  if (maxLength !== undefined && length > maxLength) {
    report('FieldValueTooLong', `Too long: may not be more than ${maxLength} bytes`);
  }
  const invalid = `Invalid value: ${show(value)}: ${path} in body`;
  if (minLength !== undefined && length < minLength) {
    report('FieldValueInvalid', `${invalid} should be at least ${minLength} chars long`);
  }
  if (pattern !== undefined && compiled(pattern)?.test(value) === false) {
    report('FieldValueInvalid', `${invalid} should match '${pattern}'`);
  }
  if (format !== undefined && formatProblem(format, value)) {
    report('FieldValueInvalid', `${invalid} must be of type ${format}: ${show(value)}`);
  }
}

function checkNumber(schema: JsonSchema, value: number, path: string, report: Report): void {
  const { minimum, maximum, multipleOf, format } = schema;
  const invalid = (what: string): void =>
    report('FieldValueInvalid', `Invalid value: ${value}: ${path} in body ${what}`);
  if (minimum !== undefined) {
    if (schema.exclusiveMinimum === true && value <= minimum)
      invalid(`should be greater than ${minimum}`);
    else if (value < minimum) invalid(`should be greater than or equal to ${minimum}`);
  }
  if (maximum !== undefined) {
    if (schema.exclusiveMaximum === true && value >= maximum)
      invalid(`should be less than ${maximum}`);
    else if (value > maximum) invalid(`should be less than or equal to ${maximum}`);
  }
  if (multipleOf !== undefined && !isMultiple(value, multipleOf)) {
    invalid(`should be a multiple of ${multipleOf}`);
  }
  if (format === 'int32' && (value > 2 ** 31 - 1 || value < -(2 ** 31))) {
    invalid('must be of type int32');
  }
}

function isMultiple(value: number, of: number): boolean {
  const quotient = value / of;
  return Math.abs(quotient - Math.round(quotient)) < 1e-9 * Math.max(1, Math.abs(quotient));
}

function checkList(
  schema: JsonSchema,
  list: readonly unknown[],
  path: string,
  errors: FieldError[],
  report: Report,
): void {
  const { minItems, maxItems, items } = schema;
  if (maxItems !== undefined && list.length > maxItems) {
    report('FieldValueTooMany', `Too many: ${list.length}: must have at most ${maxItems} items`);
  }
  if (minItems !== undefined && list.length < minItems) {
    report(
      'FieldValueInvalid',
      `Invalid value: ${list.length}: ${path} in body should have at least ${minItems} items`,
    );
  }
  checkDuplicates(schema, list, path, report);
  if (items === undefined) return;
  for (const [index, item] of list.entries()) check(items, item, `${path}[${index}]`, errors);
}

function checkDuplicates(
  schema: JsonSchema,
  list: readonly unknown[],
  path: string,
  report: Report,
): void {
  const shape = listShape(schema);
  if (shape.kind === 'atomic' && schema.uniqueItems !== true) return;
  const seen = new Set<string>();
  for (const [index, item] of list.entries()) {
    const element = itemElement(shape, schema.items, item);
    if (element === undefined) continue;
    if (seen.has(element)) {
      report('FieldValueDuplicate', `Duplicate value: ${element.slice(2)}`, `${path}[${index}]`);
    }
    seen.add(element);
  }
}

function checkMap(
  schema: JsonSchema,
  object: Record<string, unknown>,
  path: string,
  errors: FieldError[],
  report: Report,
): void {
  const at = (key: string): string => (path === '' ? key : `${path}.${key}`);
  const size = Object.keys(object).length;
  if (schema.maxProperties !== undefined && size > schema.maxProperties) {
    report(
      'FieldValueTooMany',
      `Too many: ${size}: must have at most ${schema.maxProperties} items`,
    );
  }
  if (schema.minProperties !== undefined && size < schema.minProperties) {
    report(
      'FieldValueInvalid',
      `Invalid value: ${size}: ${path} in body should have at least ${schema.minProperties} properties`,
    );
  }
  for (const key of schema.required ?? []) {
    const given = Object.hasOwn(object, key) ? object[key] : undefined;
    const absent = given === undefined || (given === null && schema.definition !== undefined);
    if (absent) report('FieldValueRequired', 'Required value', at(key));
  }
  for (const [key, member] of Object.entries(object)) {
    const below = fieldSchema(schema, key);
    if (below !== undefined) check(below, member, at(key), errors);
  }
}

function checkCombined(
  schema: JsonSchema,
  value: unknown,
  path: string,
  errors: FieldError[],
  report: Report,
): void {
  const passes = (one: JsonSchema): boolean => validateObject(one, value, path).length === 0;
  const fails = (what: string): void =>
    report('FieldValueInvalid', `Invalid value: ${show(value)}: ${path} in body must ${what}`);
  for (const one of schema.allOf ?? []) errors.push(...validateObject(one, value, path));
  if (schema.anyOf !== undefined && !schema.anyOf.some(passes)) {
    fails('validate at least one schema (anyOf)');
  }
  if (schema.oneOf !== undefined) {
    const valid = schema.oneOf.filter(passes).length;
    const found = valid === 0 ? 'Found none valid' : `Found ${valid} valid alternatives`;
    if (valid !== 1) fails(`validate one and only one schema (oneOf). ${found}`);
  }
  if (schema.not !== undefined && passes(schema.not)) fails('not validate the schema (not)');
}
