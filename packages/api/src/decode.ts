import type { Result } from './result.ts';
import { err, ok } from './result.ts';

/** What is wrong with a value that came over a wire, and where. */
export interface DecodeError {
  readonly code: 'decode/invalid';
  /** For example `rules[0].when[1].values`. */
  readonly path: string;
  readonly message: string;
}

/** Turns an unknown value into a typed one or throws a `Failure`; composed freely, run by `decodeWith`. */
export type Decoder<T> = (value: unknown, path: string) => T;

class Failure extends Error {
  readonly path: string;

  constructor(path: string, expected: string) {
    super(`${path === '' ? 'the value' : path} is not ${expected}`);
    this.path = path;
  }
}

/** Runs a decoder; the only place where its failures become results. */
export function decodeWith<T>(decoder: Decoder<T>, value: unknown): Result<T, DecodeError> {
  try {
    return ok(decoder(value, ''));
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return err({ code: 'decode/invalid', path: error.path, message: error.message });
  }
}

export function fail(path: string, expected: string): never {
  throw new Failure(path, expected);
}

const maxText = 64 * 1024;
const maxItems = 100_000;

export const text: Decoder<string> = (value, path) =>
  typeof value === 'string' && value.length <= maxText ? value : fail(path, 'a text');

export const boolean: Decoder<boolean> = (value, path) =>
  typeof value === 'boolean' ? value : fail(path, 'true or false');

export const integer: Decoder<number> = (value, path) =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
    ? value
    : fail(path, 'a whole number');

/** A number that need not be whole, such as a percentage. */
export const number: Decoder<number> = (value, path) =>
  typeof value === 'number' && Number.isFinite(value) && value >= 0
    ? value
    : fail(path, 'a number');

export function list<T>(item: Decoder<T>): Decoder<T[]> {
  return (value, path) => {
    if (!Array.isArray(value) || value.length > maxItems) return fail(path, 'a list');
    return value.map((entry: unknown, index) => item(entry, `${path}[${index}]`));
  };
}

export function oneOf<const T extends string>(...allowed: readonly T[]): Decoder<T> {
  return (value, path) =>
    allowed.find((name) => name === value) ?? fail(path, `one of ${allowed.join(', ')}`);
}

/** Uses a parser of the api's own nouns, such as `parseIp`. */
export function parsed<I, T>(
  input: Decoder<I>,
  parse: (value: I) => Result<T, { readonly message: string }>,
): Decoder<T> {
  return (value, path) => {
    const outcome = parse(input(value, path));
    return outcome.ok ? outcome.value : fail(path, `valid: ${outcome.error.message}`);
  };
}

/** The fields of an object; read one by one, unknown ones are ignored. */
export interface Fields {
  /** A required field. */
  get<T>(name: string, decoder: Decoder<T>): T;
  /** An object that holds the field, or an empty one: for `exactOptionalPropertyTypes`, spread into the result. */
  optional<const N extends string, T>(name: N, decoder: Decoder<T>): { readonly [K in N]?: T };
}

export function object<T>(build: (fields: Fields, path: string) => T): Decoder<T> {
  return (value, path) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      return fail(path, 'an object');
    const at = (name: string): string => (path === '' ? name : `${path}.${name}`);
    const read = (name: string): unknown =>
      Object.hasOwn(value, name) ? (value as Readonly<Record<string, unknown>>)[name] : undefined;
    return build(
      {
        get: (name, decoder) => decoder(read(name), at(name)),
        optional: <const N extends string, V>(name: N, decoder: Decoder<V>) => {
          const found = read(name);
          return (found === undefined ? {} : { [name]: decoder(found, at(name)) }) as {
            readonly [K in N]?: V;
          };
        },
      },
      path,
    );
  };
}

/** A discriminated union: `tag` names the member. */
export function union<T>(tag: string, members: Readonly<Record<string, Decoder<T>>>): Decoder<T> {
  const known = new Map(Object.entries(members));
  return (value, path) => {
    const kind =
      typeof value === 'object' && value !== null
        ? (value as Readonly<Record<string, unknown>>)[tag]
        : undefined;
    const member = typeof kind === 'string' ? known.get(kind) : undefined;
    return member === undefined
      ? fail(path === '' ? tag : `${path}.${tag}`, `one of ${[...known.keys()].join(', ')}`)
      : member(value, path);
  };
}

/** A brand that no parser guards further: names chosen by the controller. */
export function branded<T extends string>(): Decoder<T> {
  return (value, path) => text(value, path) as T;
}
