/** One thing that is wrong with an object, told so that its owner can mend it. */
export interface Problem {
  /** `<kind> <namespace>/<name>`. */
  readonly object: string;
  /** Path of the field, for example `spec.rules[0].to[0].operation.ports[1]`. */
  readonly field: string;
  readonly message: string;
  /** The reason that a condition gives when nothing else is wrong; `Invalid` when absent. */
  readonly reason?: string;
  /** Depends on other objects, or does nothing: validation lets the object in and warns of it. */
  readonly admissible?: true;
}

/** Takes one problem of an object; `admissible` as in `Problem`. */
export type Report = (field: string, message: string, admissible?: true) => void;

/** The reason for a condition that tells all of these. */
export function reasonOf(problems: readonly Problem[]): string {
  const [reason, ...others] = new Set(problems.map((one) => one.reason));
  return (others.length === 0 ? reason : undefined) ?? 'Invalid';
}

export function describeProblem({ object, field, message }: Problem): string {
  return `${object}: ${field}: ${message}`;
}

/** Name, namespace and labels: what every object has. */
export interface Metadata {
  readonly name: string;
  /** Empty for a cluster-wide object. */
  readonly namespace: string;
  readonly uid: string;
  readonly resourceVersion: string;
  readonly generation: number;
  /** Milliseconds since 1970; 0 when the object does not say. */
  readonly createdAtMs: number;
  readonly deleting: boolean;
  readonly labels: ReadonlyMap<string, string>;
  readonly annotations: ReadonlyMap<string, string>;
}

/** `namespace/name`, or `name` for a cluster-wide object. */
export function objectKey(meta: { readonly namespace: string; readonly name: string }): string {
  return meta.namespace === '' ? meta.name : `${meta.namespace}/${meta.name}`;
}

/** The name in what `objectKey` makes. */
export function nameIn(key: string): string {
  return key.slice(key.indexOf('/') + 1);
}

/** A view on untyped JSON that only ever reads own properties. */
export function field(value: unknown, ...path: readonly string[]): unknown {
  let current = value;
  for (const name of path) {
    if (typeof current !== 'object' || current === null || !Object.hasOwn(current, name)) {
      return undefined;
    }
    current = (current as Record<string, unknown>)[name];
  }
  return current;
}

export function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

export function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? (value as unknown[]) : [];
}

export function texts(value: unknown): readonly string[] {
  return list(value).filter((item) => typeof item === 'string');
}

/** One for all: most objects have no annotations, and an empty Map takes as much as one of four entries. */
const noTexts: ReadonlyMap<string, string> = new Map();

export function textMap(value: unknown): ReadonlyMap<string, string> {
  if (typeof value !== 'object' || value === null) return noTexts;
  const entries = Object.entries(value).filter(
    (entry): entry is [string, string] => typeof entry[1] === 'string',
  );
  return entries.length === 0 ? noTexts : new Map(entries);
}

/** Reads `metadata`; undefined when the object has no name, which no API server lets happen. */
export function decodeMetadata(object: unknown): Metadata | undefined {
  const meta = field(object, 'metadata');
  const name = text(field(meta, 'name'));
  if (name === '') return undefined;
  const created = Date.parse(text(field(meta, 'creationTimestamp')));
  const generation = field(meta, 'generation');
  return {
    name,
    namespace: text(field(meta, 'namespace')),
    uid: text(field(meta, 'uid')),
    resourceVersion: text(field(meta, 'resourceVersion')),
    generation: typeof generation === 'number' ? generation : 0,
    createdAtMs: Number.isNaN(created) ? 0 : created,
    deleting: text(field(meta, 'deletionTimestamp')) !== '',
    labels: textMap(field(meta, 'labels')),
    annotations: textMap(field(meta, 'annotations')),
  };
}
