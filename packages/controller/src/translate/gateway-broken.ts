import { Value } from 'typebox/value';
import type { TSchema } from 'typebox';

import type { Problem } from '../kube/decode/fields.ts';
import { field, list } from '../kube/decode/fields.ts';
import { parentRefSchema, routeSchemas } from '../resources/gateway-api.ts';
import type { GatewayRouteKind } from './gateway-compilation.ts';

/** What a route that breaks its schema can still be read to speak of. */
export interface BrokenRoute {
  /** Keeps the schema: parents and matches that can be read, and whole rules where nothing is wrong with them. */
  readonly spec: object;
  readonly problems: readonly Problem[];
  /** Whether the rule of this index answers errors, because nobody knows all that it says. */
  isClosed(rule: number): boolean;
}

/**
 * Reads a route that breaks its schema, perhaps because its fields are newer than we are. What it speaks of is never
 * narrowed: a match loses the parts that cannot be read, and so holds for more than was meant.
 */
export function readBrokenRoute(
  kind: GatewayRouteKind,
  raw: unknown,
  problems: readonly Problem[],
): BrokenRoute {
  const { rule, match, fields } = routeSchemas[kind];
  const written = field(raw, 'rules');
  const rules = Array.isArray(written) && written.length > 0 ? (written as unknown[]) : [{}];
  // A field beside the rules may change what each of them means.
  const isWhole = rules === written && rules.length <= maxRules && besideReadable(raw, fields);
  const closed = new Set<number>();
  const read = rules.map((one, index) => {
    if (isWhole && Value.Check(rule, one)) return one as object;
    closed.add(index);
    if (match === undefined) return {};
    return { matches: list(field(one, 'matches')).map((written) => readable(match, written)) };
  });
  const hostnames = list(field(raw, 'hostnames')).filter((one) => typeof one === 'string');
  const parentRefs = list(field(raw, 'parentRefs'))
    .map((one) => readable(parentRefSchema, one))
    .filter((one) => Value.Check(parentRefSchema, one));
  return {
    spec: { parentRefs, rules: read, ...(kind === 'TLSRoute' ? { hostnames } : {}) },
    problems,
    isClosed: (index) => closed.has(index),
  };
}

const maxRules = 16;

function besideReadable(raw: unknown, fields: Readonly<Record<string, TSchema>>): boolean {
  return Object.entries(raw as object).every(([name, value]) => {
    if (name === 'parentRefs' || name === 'rules') return true;
    const schema = Object.hasOwn(fields, name) ? fields[name] : undefined;
    return schema !== undefined && Value.Check(schema, value);
  });
}

/** The properties, and the items of lists, that keep the schema of an object. */
function readable(schema: TSchema, value: unknown): object {
  const { properties = {} } = schema as { properties?: Readonly<Record<string, TSchema>> };
  const kept = new Map<string, unknown>();
  for (const [name, property] of Object.entries(properties)) {
    const written = field(value, name);
    if (written === undefined) continue;
    if (Value.Check(property, written)) kept.set(name, written);
    const { items } = property as { items?: TSchema };
    if (!kept.has(name) && items !== undefined && Array.isArray(written)) {
      kept.set(
        name,
        written.filter((one) => Value.Check(items, one)),
      );
    }
  }
  return Object.fromEntries(kept);
}
