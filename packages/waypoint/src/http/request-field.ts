import type { HeaderList } from './headers.ts';

/** The parts of a request that Istio's API names as if they were fields, whichever version carried them. */
export interface FieldSource {
  readonly method: string;
  readonly scheme: string;
  readonly authority: string;
  /** Wish of the client to change over; it and its `Connection` are no fields any more once the head is read. */
  readonly upgrade?: string | undefined;
  readonly headers: HeaderList;
}

/** Every value that a request has under a lower-case name; `target` is its path with the query. */
export function requestField(
  { method, scheme, authority, upgrade, headers }: FieldSource,
  target: string,
  name: string,
): readonly string[] {
  switch (name) {
    case 'host':
    case ':authority':
      return [authority];
    case ':method':
      return [method];
    case ':path':
      return [target];
    case ':scheme':
      return [scheme];
    case 'upgrade':
      return upgrade === undefined ? none : [upgrade];
    case 'connection':
      return upgrade === undefined ? none : ['upgrade'];
    default:
      return headers.all(name);
  }
}

const none: readonly string[] = [];
