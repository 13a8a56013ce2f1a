import type { RetryPolicy } from '@ambit/api';
import type { HeaderList } from '../http/headers.ts';
import type { UpstreamCluster } from './cluster.ts';
import type { Limit } from './observer.ts';
import type { TryOutcome } from './retry.ts';
import { backoffMs, isIdempotent, isWorthRetry } from './retry.ts';

/** Envoy's header by which a route's owner names fields of answers that are worth a repeat. */
const retriableNamesHeader = 'x-envoy-retriable-header-names';
/** Connections that an endpoint had given up are replaced so often without counting as a repeat. */
const maxStale = 2;

export type Verdict =
  | { readonly kind: 'again'; readonly waitMs: number }
  /** `exhausted`: it would have been worth another. */
  | { readonly kind: 'over'; readonly exhausted: boolean }
  | { readonly kind: 'refused'; readonly limit: Limit };

const nobody: ReadonlySet<string> = new Set();
const over: Verdict = { kind: 'over', exhausted: false };
const exhausted: Verdict = { kind: 'over', exhausted: true };

/** What counts the repeats. */
type Repeated = Pick<UpstreamCluster, 'requests' | 'retries' | 'settings'>;

/** What is remembered of one request's tries, and whether there is to be another. */
export class RetryState {
  readonly policy: RetryPolicy;
  readonly #cluster: Repeated;
  readonly #retriableHeaders: readonly string[];
  #repeats = 0;
  #stale = 0;
  #counted = false;
  #first: string | undefined;
  #tried: Set<string> | undefined;

  /** `headers` are those of the request to the endpoint; what is meant for us is taken out of them. */
  constructor(policy: RetryPolicy, cluster: Repeated, headers: HeaderList) {
    this.policy = policy;
    this.#cluster = cluster;
    this.#retriableHeaders = policy.on.includes('retriable-headers') ? takeNames(headers) : [];
  }

  /** Ids of the endpoints that were tried. */
  get tried(): ReadonlySet<string> {
    if (this.#first === undefined) return nobody;
    this.#tried ??= new Set([this.#first]);
    return this.#tried;
  }

  trying(host: string): void {
    // Most requests have one try.
    if (this.#first === undefined) this.#first = host;
    else (this.#tried ??= new Set([this.#first])).add(host);
  }

  /** After a try. `reused`: it was sent on a connection that had been idle. */
  after(outcome: TryOutcome, method: string, reused: boolean, random: () => number): Verdict {
    const idempotent = isIdempotent(method);
    const { policy } = this;
    // Whoever wants nothing repeated means what an endpoint may have acted on.
    const never = policy.attempts <= 0 && !(outcome.kind === 'reset' && outcome.unprocessed);
    if (never) return over;
    // An idle connection that the endpoint had just given up says nothing about the endpoint.
    if (outcome.kind === 'reset' && reused && idempotent && this.#stale < maxStale) {
      this.#stale += 1;
      return { kind: 'again', waitMs: 0 };
    }
    if (policy.attempts <= 0) return over;
    const kind = { idempotent, retriableHeaders: this.#retriableHeaders };
    if (!isWorthRetry(policy, outcome, kind)) return over;
    if (this.#repeats >= policy.attempts) return exhausted;
    const limit = this.#limit();
    if (limit !== undefined) return { kind: 'refused', limit };
    this.#repeats += 1;
    if (!this.#counted) {
      this.#counted = true;
      this.#cluster.retries += 1;
    }
    return { kind: 'again', waitMs: backoffMs(policy, this.#repeats, random) };
  }

  /** There will be no other try. */
  release(): void {
    if (!this.#counted) return;
    this.#counted = false;
    this.#cluster.retries -= 1;
  }

  /** The limit that keeps the cluster from being asked again, so that repeats never become the load. */
  #limit(): Limit | undefined {
    const { settings, requests, retries } = this.#cluster;
    // Our own place among the repeats is ours already.
    const others = this.#counted ? retries - 1 : retries;
    const { retryBudget } = settings;
    if (retryBudget !== undefined) {
      const { percent, minRetryConcurrency } = retryBudget;
      const allowed = Math.max(minRetryConcurrency, (requests * percent) / 100);
      return others < allowed ? undefined : 'retry-budget';
    }
    const { maxRetries } = settings.pool;
    return maxRetries === undefined || others < maxRetries ? undefined : 'retries';
  }
}

function takeNames(headers: HeaderList): readonly string[] {
  const names = headers.all(retriableNamesHeader);
  headers.delete(retriableNamesHeader);
  return names
    .flatMap((line) => line.split(','))
    .map((name) => name.trim().toLowerCase())
    .filter((name) => name !== '');
}
