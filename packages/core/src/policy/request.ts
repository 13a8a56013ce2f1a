import type { RequestAttribute, StringPattern } from '@ambit/api';
import { assertNever } from '@ambit/api';
import type { RequestFacts } from './facts.ts';
import { patternMatches } from './pattern.ts';

/** Whether an attribute of a request is as a rule wants it; every value of a header or claim counts on its own. */
export function requestHolds(
  attribute: RequestAttribute,
  rule: { readonly values: readonly StringPattern[]; readonly notValues: readonly StringPattern[] },
  request: RequestFacts,
): boolean {
  const values = valuesOf(attribute, request);
  const matches = (pattern: StringPattern): boolean =>
    values.some((value) => patternMatches(lowerIf(attribute.kind === 'host', pattern), value));
  return (rule.values.length === 0 || rule.values.some(matches)) && !rule.notValues.some(matches);
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

/** A host is named with and without its port; a rule may mean either. */
function hosts(authority: string): readonly string[] {
  const whole = authority.toLowerCase();
  const withoutPort = whole.replace(/:\d{1,5}$/, '');
  return withoutPort === whole ? [whole] : [whole, withoutPort];
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
