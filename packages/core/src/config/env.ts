import type { SocketAddress } from '@ambit/api';
import { parsePort } from '@ambit/api';
import { MeshError } from '../errors.ts';
import { parseDurationMs } from './duration.ts';

/** Where settings come from: the process environment, or a map in tests. */
export interface EnvSource {
  get(name: string): string | undefined;
}

export function processEnv(env: NodeJS.ProcessEnv): EnvSource {
  return { get: (name) => env[name] };
}

export function envOf(values: Readonly<Record<string, string>>): EnvSource {
  const map = new Map(Object.entries(values));
  return { get: (name) => map.get(name) };
}

const hourMs = 3_600_000;
/** A timer that is set for longer ends at once. */
const maxTimerMs = 2 ** 31 - 1;

/** A host, as a name or an address, and a port. */
export interface HostPort {
  readonly host: string;
  readonly port: SocketAddress['port'];
}

/**
 * Reads settings one by one and gathers what is wrong, so that all of it is told at once by `finish`. An empty
 * variable counts as absent. A reader without a default makes the variable required.
 */
export class EnvReader {
  readonly #source: EnvSource;
  readonly #problems: string[] = [];

  constructor(source: EnvSource) {
    this.#source = source;
  }

  string(name: string, fallback?: string): string {
    return this.#read(name, fallback, (text) => text, 'a text') ?? '';
  }

  optional(name: string): string | undefined {
    const text = this.#source.get(name)?.trim();
    return text === '' ? undefined : text;
  }

  oneOf<T extends string>(name: string, values: readonly T[], fallback: T): T {
    const read = (text: string): T | undefined => values.find((value) => value === text);
    return this.#read(name, fallback, read, `one of ${values.join(', ')}`) ?? fallback;
  }

  integer(
    name: string,
    fallback: number,
    range: { readonly min: number; readonly max: number },
  ): number {
    const read = (text: string): number | undefined => {
      const value = /^-?\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
      return value >= range.min && value <= range.max ? value : undefined;
    };
    return (
      this.#read(name, fallback, read, `a whole number from ${range.min} to ${range.max}`) ??
      fallback
    );
  }

  port(name: string, fallback: number): number {
    return this.integer(name, fallback, { min: 0, max: 65_535 });
  }

  boolean(name: string, fallback: boolean): boolean {
    const read = (text: string): boolean | undefined =>
      text === 'true' ? true : text === 'false' ? false : undefined;
    return this.#read(name, fallback, read, 'true or false') ?? fallback;
  }

  /** `maxMs` is for what is compared with a clock; without it what a timer can wait for is the most. */
  durationMs(name: string, fallbackMs: number, { maxMs = maxTimerMs } = {}): number {
    const read = (text: string): number | undefined => {
      const value = parseDurationMs(text);
      return value !== undefined && value <= maxMs ? value : undefined;
    };
    const form = `a duration such as 250ms, 5s or 24h, of ${Math.floor(maxMs / hourMs)}h at most`;
    return this.#read(name, fallbackMs, read, form) ?? fallbackMs;
  }

  list(name: string, fallback: readonly string[]): readonly string[] {
    const read = (text: string): string[] =>
      text
        .split(',')
        .map((part) => part.trim())
        .filter((part) => part !== '');
    return this.#read(name, fallback, read, 'a list separated by commas') ?? fallback;
  }

  hostPort(name: string, fallback: string): HostPort {
    const read = (text: string): HostPort | undefined => {
      const parts = /^(?:\[([0-9a-fA-F:.]+)\]|([^:\s]+)):(\d+)$/.exec(text);
      const host = parts?.[1] ?? parts?.[2];
      const port = parsePort(parts?.[3] ?? '');
      return host !== undefined && port.ok ? { host, port: port.value } : undefined;
    };
    const value = this.#read(name, read(fallback), read, 'HOST:PORT');
    return value ?? { host: '', port: 1 as HostPort['port'] };
  }

  /** Records a problem that a caller found in values it read. */
  problem(name: string, what: string): void {
    this.#problems.push(`${name}: ${what}`);
  }

  /** Throws one error that names every problem. */
  finish(): void {
    if (this.#problems.length === 0) return;
    throw new MeshError(
      'config/invalid',
      `the environment cannot be used:\n  ${this.#problems.join('\n  ')}`,
    );
  }

  #read<T>(
    name: string,
    fallback: T | undefined,
    parse: (text: string) => T | undefined,
    form: string,
  ): T | undefined {
    const text = this.optional(name);
    if (text === undefined) {
      if (fallback === undefined) this.problem(name, `is not set; set it to ${form}`);
      return fallback;
    }
    const value = parse(text);
    if (value === undefined) {
      this.problem(name, `${JSON.stringify(text.slice(0, 100))} is not ${form}`);
      return fallback;
    }
    return value;
  }
}
