import type { RequestAttribute, StringPattern } from '@ambit/api';
import { assertNever } from '@ambit/api';
import type { RequestFacts } from './facts.ts';
import { patternMatches } from './pattern.ts';

interface Wanted {
  readonly values: readonly StringPattern[];
  readonly notValues: readonly StringPattern[];
}

/**
 * Whether an attribute of a request is as a rule wants it. Claims and audiences are lists: one entry that matches is
 * enough. A header may come several times, and nobody knows which one the application will read: where a rule allows
 * (`narrow`) every value must match and none may be excluded; where it denies (`widen`) one is enough, and an exception
 * must hold for all. Elements of a list with commas count too, where that makes the rule stricter.
 */
export function requestHolds(
  attribute: RequestAttribute,
  rule: Wanted,
  request: RequestFacts,
  leaning: 'narrow' | 'widen',
): boolean {
  const values = valuesOf(attribute, request);
  if (attribute.kind === 'header' && values.length > 0) return headerHolds(values, rule, leaning);
  const matches = (pattern: StringPattern): boolean =>
    values.some((value) => patternMatches(lowerIf(attribute.kind === 'host', pattern), value));
  return (rule.values.length === 0 || rule.values.some(matches)) && !rule.notValues.some(matches);
}

function headerHolds(
  values: readonly string[],
  rule: Wanted,
  leaning: 'narrow' | 'widen',
): boolean {
  const isOneOf = (patterns: readonly StringPattern[]) => (value: string) =>
    // A field that is empty is there.
    patterns.some((pattern) => pattern.kind === 'presence' || patternMatches(pattern, value));
  if (leaning === 'narrow') {
    return (
      (rule.values.length === 0 || values.every(isOneOf(rule.values))) &&
      (rule.notValues.length === 0 || !withElements(values).some(isOneOf(rule.notValues)))
    );
  }
  return (
    (rule.values.length === 0 || withElements(values).some(isOneOf(rule.values))) &&
    (rule.notValues.length === 0 || !values.every(isOneOf(rule.notValues)))
  );
}

/** `a: 1, 2` says what two lines `a: 1` and `a: 2` say (RFC 9110 §5.3). */
function withElements(values: readonly string[]): readonly string[] {
  return values.some((value) => value.includes(','))
    ? [...values, ...values.flatMap((value) => value.split(',').map((one) => one.trim()))]
    : values;
}

function valuesOf(attribute: RequestAttribute, request: RequestFacts): readonly string[] {
  switch (attribute.kind) {
    case 'host':
      return hosts(request.authority);
    case 'method':
      return [request.method];
    case 'path':
      return [request.path];
    case 'header':
      return request.header(attribute.name.toLowerCase());
    case 'requestPrincipal':
      return request.token === undefined ? [] : [request.token.principal];
    case 'audiences':
      return request.token?.audiences ?? [];
    case 'presenter':
      return request.token?.presenter === undefined ? [] : [request.token.presenter];
    case 'claim':
      return claimValues(request.token?.claims, attribute.path);
    default:
      return assertNever(attribute);
  }
}

/** A host is named with and without its port, and with the root's dot or not; a rule may mean any of them. */
function hosts(authority: string): readonly string[] {
  const whole = authority.toLowerCase();
  const name = whole.replace(/:\d{1,5}$/, '');
  const port = whole.slice(name.length);
  const names = name.endsWith('.') ? [name, name.slice(0, -1)] : [name];
  return port === '' ? names : names.flatMap((one) => [one + port, one]);
}

function lowerIf(wanted: boolean, pattern: StringPattern): StringPattern {
  if (!wanted || pattern.kind === 'presence') return pattern;
  return { kind: pattern.kind, value: pattern.value.toLowerCase() };
}

const maxClaimDepth = 16;

function claimValues(claims: unknown, path: readonly string[]): readonly string[] {
  let current = claims;
  for (const name of path.slice(0, maxClaimDepth)) {
    if (typeof current !== 'object' || current === null || !Object.hasOwn(current, name)) return [];
    current = (current as Readonly<Record<string, unknown>>)[name];
  }
  const values: readonly unknown[] = Array.isArray(current) ? (current as unknown[]) : [current];
  return values.flatMap((value) => {
    if (typeof value === 'string') return [value];
    return typeof value === 'number' || typeof value === 'boolean' ? [String(value)] : [];
  });
}
