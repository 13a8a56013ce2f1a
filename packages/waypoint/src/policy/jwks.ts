import type { JwtRule, Result } from '@ambit/api';
import { err, ok } from '@ambit/api';
import { causeChain, errnoCode } from '@ambit/core';
import type { JWK } from 'jose';
import type { GuardOptions } from './guarded-fetch.ts';
import { guardedFetch, refusedCode } from './guarded-fetch.ts';

export interface JwksSource {
  /** The keys with which tokens of a rule are verified; an error where none can be had. */
  keys(rule: JwtRule): Promise<Result<readonly JWK[], string>>;
  /** Keys fetched anew, for a token that none of the known ones fits; undefined where it is too early for that. */
  renewed(rule: JwtRule): Promise<readonly JWK[] | undefined>;
  close(): void;
}

export interface JwksOptions extends GuardOptions {
  readonly nowMs?: () => number;
  /** `error` is for everybody, `cause` for the log alone: what answers there, and how, is not for who wrote the URI. */
  readonly onFailure?: (uri: string, error: string, cause: string) => void;
  readonly onFetched?: (uri: string) => void;
}

const maxTimeoutMs = 5_000;
const refreshMs = 20 * 60_000;
/** After a failure, and of keys that once were good: as Istio does. */
const againMs = 5_000;
/** Any client can send a token with a key id that nobody has. */
const renewAgainMs = 30_000;
const staleMs = 7 * 24 * 3_600_000;
const maxSources = 1000;

interface Remote {
  keys: readonly JWK[] | undefined;
  error: string;
  fetchedAtMs: number;
  triedAtMs: number;
  fetching: Promise<void> | undefined;
}

export function createJwksSource(options: JwksOptions = {}): JwksSource {
  return new Source(options);
}

class Source implements JwksSource {
  readonly #guard: GuardOptions;
  readonly #onFailure: (uri: string, error: string, cause: string) => void;
  readonly #onFetched: (uri: string) => void;
  readonly #now: () => number;
  readonly #inline = new Map<string, Result<readonly JWK[], string>>();
  readonly #remote = new Map<string, Remote>();
  #closed = false;

  constructor({
    nowMs = Date.now,
    onFailure = () => undefined,
    onFetched = () => undefined,
    ...guard
  }: JwksOptions) {
    this.#guard = guard;
    this.#onFetched = onFetched;
    this.#onFailure = onFailure;
    this.#now = nowMs;
  }

  async keys(rule: JwtRule): Promise<Result<readonly JWK[], string>> {
    switch (rule.keys.kind) {
      case 'none':
        return err(rule.keys.why);
      case 'inline': {
        const { jwks } = rule.keys;
        let parsed = this.#inline.get(jwks);
        if (parsed === undefined) {
          if (this.#inline.size >= maxSources) this.#inline.clear();
          parsed = parseKeys(jwks);
          this.#inline.set(jwks, parsed);
        }
        return parsed;
      }
      case 'remote':
        return this.#fromRemote(rule.keys.uri, rule.keys.timeoutMs);
    }
  }

  async renewed({ keys }: JwtRule): Promise<readonly JWK[] | undefined> {
    const remote = keys.kind === 'remote' ? this.#remote.get(keys.uri) : undefined;
    if (keys.kind !== 'remote' || remote === undefined || this.#closed) return undefined;
    const before = remote.keys;
    if (remote.fetching === undefined && this.#now() - remote.triedAtMs >= renewAgainMs) {
      remote.fetching = this.#fetch(keys.uri, keys.timeoutMs, remote);
    }
    await remote.fetching;
    return remote.keys === before ? undefined : remote.keys;
  }

  close(): void {
    this.#closed = true;
    this.#remote.clear();
  }

  async #fromRemote(uri: string, timeoutMs: number): Promise<Result<readonly JWK[], string>> {
    let remote = this.#remote.get(uri);
    if (remote === undefined) {
      if (this.#remote.size >= maxSources) this.#forgetOldest();
      remote = {
        keys: undefined,
        error: '',
        fetchedAtMs: 0,
        triedAtMs: -againMs,
        fetching: undefined,
      };
      this.#remote.set(uri, remote);
    }
    const now = this.#now();
    const due = now - remote.fetchedAtMs >= refreshMs && now - remote.triedAtMs >= againMs;
    if (due && !this.#closed) remote.fetching ??= this.#fetch(uri, timeoutMs, remote);
    if (remote.keys === undefined && remote.fetching !== undefined) await remote.fetching;
    if (remote.keys === undefined) return err(remote.error);
    if (this.#now() - remote.fetchedAtMs > staleMs) return err('the last good keys are too old');
    return ok(remote.keys);
  }

  /** Rules come and go; the source that was asked longest ago is the likeliest to be gone. */
  #forgetOldest(): void {
    let oldest: string | undefined;
    for (const [uri, { triedAtMs }] of this.#remote) {
      if (oldest === undefined || triedAtMs < (this.#remote.get(oldest)?.triedAtMs ?? 0))
        oldest = uri;
    }
    if (oldest !== undefined) this.#remote.delete(oldest);
  }

  async #fetch(uri: string, timeoutMs: number, remote: Remote): Promise<void> {
    remote.triedAtMs = this.#now();
    try {
      const limitMs = Math.min(maxTimeoutMs, timeoutMs);
      const parsed = parseKeys(await guardedFetch(new URL(uri), limitMs, this.#guard));
      if (parsed.ok) {
        remote.keys = parsed.value;
        remote.fetchedAtMs = this.#now();
        this.#onFetched(uri);
      } else this.#failed(uri, remote, parsed.error);
    } catch (error) {
      const isOurs = errnoCode(error) === refusedCode;
      this.#failed(uri, remote, causeChain(error), isOurs ? (error as Error).message : undefined);
    } finally {
      remote.fetching = undefined;
    }
  }

  #failed(uri: string, remote: Remote, cause: string, told = coarse): void {
    remote.error = `keys not fetched from ${uri}: ${told}`;
    this.#onFailure(uri, remote.error, cause);
  }
}

const coarse = 'no key set came from there (the log of the waypoint says more)';

function parseKeys(text: string): Result<readonly JWK[], string> {
  try {
    const parsed: unknown = JSON.parse(text);
    const keys =
      typeof parsed === 'object' && parsed !== null
        ? (parsed as { keys?: unknown }).keys
        : undefined;
    if (!Array.isArray(keys)) return err('the key set has no keys');
    const usable = (keys as unknown[]).filter((key): key is JWK => {
      const kty = typeof key === 'object' && key !== null ? (key as JWK).kty : undefined;
      // A shared secret in a key set would let everybody who reads it sign.
      return kty === 'RSA' || kty === 'EC' || kty === 'OKP';
    });
    return usable.length === 0 ? err('the key set has no usable key') : ok(usable);
  } catch {
    return err('the key set is no JSON');
  }
}
