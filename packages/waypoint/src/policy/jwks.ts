import { lookup as dnsLookup } from 'node:dns/promises';
import type { LookupFunction } from 'node:net';
import type { Cidr, IpAddress, JwtRule, Result } from '@ambit/api';
import { cidrContains, err, familyOf, ok, parseCidr, parseIp } from '@ambit/api';
import { causeChain } from '@ambit/core';
import type { JWK } from 'jose';
import { Agent, request } from 'undici';

export interface JwksSource {
  /** The keys with which tokens of a rule are verified; an error where none can be had. */
  keys(rule: JwtRule): Promise<Result<readonly JWK[], string>>;
  close(): void;
}

export interface JwksOptions {
  /** Ranges that may be asked although they are closed by default. */
  readonly allowed?: readonly Cidr[];
  readonly nowMs?: () => number;
}

/** Nobody's keys live there; whoever can write a jwksUri must not reach them through the proxy. */
const closed: readonly Cidr[] = [
  '0.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/4',
  '240.0.0.0/4',
  '::/128',
  '::1/128',
  'fe80::/10',
  'fc00::/7',
  'ff00::/8',
].map((text) => {
  const range = parseCidr(text);
  if (!range.ok) throw new TypeError(range.error.message);
  return range.value;
});

const maxBytes = 1024 * 1024;
const maxTimeoutMs = 5_000;
const refreshMs = 20 * 60_000;
/** After a failure, and of keys that once were good: as Istio does. */
const againMs = 5_000;
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
  readonly #allowed: readonly Cidr[];
  readonly #now: () => number;
  readonly #inline = new Map<string, Result<readonly JWK[], string>>();
  readonly #remote = new Map<string, Remote>();
  #closed = false;

  constructor({ allowed = [], nowMs = Date.now }: JwksOptions) {
    this.#allowed = allowed;
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

  close(): void {
    this.#closed = true;
    this.#remote.clear();
  }

  async #fromRemote(uri: string, timeoutMs: number): Promise<Result<readonly JWK[], string>> {
    let remote = this.#remote.get(uri);
    if (remote === undefined) {
      if (this.#remote.size >= maxSources) return err('too many sources of keys');
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

  async #fetch(uri: string, timeoutMs: number, remote: Remote): Promise<void> {
    remote.triedAtMs = this.#now();
    try {
      const text = await this.#get(new URL(uri), Math.min(maxTimeoutMs, timeoutMs));
      const parsed = parseKeys(text);
      if (parsed.ok) {
        remote.keys = parsed.value;
        remote.fetchedAtMs = this.#now();
      } else remote.error = parsed.error;
    } catch (error) {
      remote.error = `keys not fetched from ${uri}: ${causeChain(error)}`;
    } finally {
      remote.fetching = undefined;
    }
  }

  async #get(url: URL, timeoutMs: number): Promise<string> {
    const address = await this.#resolve(url.hostname.replace(/^\[|\]$/g, ''));
    // Pinned: the name is not asked again, so it cannot answer differently the second time.
    const lookup: LookupFunction = (_host, options, done) => {
      const family = familyOf(address) === 'IPv6' ? 6 : 4;
      if (options.all === true) done(null, [{ address, family }]);
      else done(null, address, family);
    };
    const agent = new Agent({ connect: { lookup, timeout: timeoutMs }, maxResponseSize: maxBytes });
    try {
      const answer = await request(url, {
        dispatcher: agent,
        headersTimeout: timeoutMs,
        bodyTimeout: timeoutMs,
        signal: AbortSignal.timeout(timeoutMs),
        headers: { accept: 'application/json' },
      });
      if (answer.statusCode !== 200) {
        await answer.body.dump();
        throw new Error(`HTTP ${answer.statusCode}; redirects are not followed`);
      }
      return await answer.body.text();
    } finally {
      void agent.close().catch(() => undefined);
    }
  }

  async #resolve(host: string): Promise<IpAddress> {
    const literal = parseIp(host);
    const found = literal.ok ? [literal.value] : await addressesOf(host);
    const [first] = found;
    if (first === undefined) throw new Error(`${host} has no address`);
    for (const ip of found) {
      const isClosed =
        closed.some((range) => cidrContains(range, ip)) &&
        !this.#allowed.some((range) => cidrContains(range, ip));
      if (isClosed) throw new Error(`${host} is at ${ip}, which may not be asked`);
    }
    return first;
  }
}

async function addressesOf(host: string): Promise<IpAddress[]> {
  const found = await dnsLookup(host, { all: true });
  return found.flatMap(({ address }) => {
    const ip = parseIp(address);
    return ip.ok ? [ip.value] : [];
  });
}

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
