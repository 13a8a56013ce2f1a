import { beforeEach, describe, expect, test } from '@jest/globals';
import type { SpiffeIdentity } from '@ambit/api';
import { makeSpiffeIdentity, parseTrustDomain } from '@ambit/api';
import { createLogger } from '../observe/logger.ts';
import type { WorkloadCertificate } from '../tls/index.ts';
import type { CertificateStore, CertificateStoreOptions, Clock } from './certificate-store.ts';
import { createCertificateStore } from './certificate-store.ts';

const hourMs = 3_600_000;
const lifeMs = 24 * hourMs;

/** A clock that a test moves: `pass` as the time does, `sleep` as a machine that is suspended. */
class TestClock implements Clock {
  #wall = Date.parse('2026-01-01T00:00:00Z');
  #monotonic = 0;
  readonly #timers = new Set<{ at: number; callback: () => void }>();

  now(): number {
    return this.#wall;
  }

  after(ms: number, callback: () => void): () => void {
    const timer = { at: this.#monotonic + ms, callback };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  async pass(ms: number): Promise<void> {
    const end = this.#monotonic + ms;
    for (;;) {
      await settle();
      const [next] = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#wall += next.at - this.#monotonic;
      this.#monotonic = next.at;
      next.callback();
    }
    this.#wall += end - this.#monotonic;
    this.#monotonic = end;
  }

  sleep(ms: number): void {
    this.#wall += ms;
  }
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
}

function identityOf(name: string): SpiffeIdentity {
  const trustDomain = parseTrustDomain('cluster.local');
  const identity = trustDomain.ok
    ? makeSpiffeIdentity(trustDomain.value, 'test', name)
    : trustDomain;
  if (!identity.ok) throw new TypeError(identity.error.message);
  return identity.value;
}

/** An authority whose answers a test gives one by one, or at once. */
class Authority {
  readonly asked: string[] = [];
  readonly open: { name: string; give: () => void; refuse: () => void }[] = [];
  mode: 'by-hand' | 'give' | 'refuse' = 'give';
  readonly #clock: TestClock;

  constructor(clock: TestClock) {
    this.#clock = clock;
  }

  async request(identity: SpiffeIdentity): Promise<WorkloadCertificate> {
    this.asked.push(identity.serviceAccount);
    return new Promise((resolve, reject) => {
      const give = (): void => resolve(this.certificate(identity));
      const refuse = (): void => reject(new Error('the authority is away'));
      if (this.mode === 'give') give();
      else if (this.mode === 'refuse') refuse();
      else this.open.push({ name: identity.serviceAccount, give, refuse });
    });
  }

  certificate(identity: SpiffeIdentity): WorkloadCertificate {
    const now = this.#clock.now();
    return {
      identity,
      chain: [],
      privateKey: '',
      roots: [],
      notBefore: new Date(now),
      notAfter: new Date(now + lifeMs),
      refreshAt: new Date(now + lifeMs / 3),
    };
  }
}

let clock: TestClock;
let authority: Authority;
const alice = identityOf('alice');
const bob = identityOf('bob');
const carol = identityOf('carol');

beforeEach(() => {
  clock = new TestClock();
  authority = new Authority(clock);
});

function makeStore(options: Partial<CertificateStoreOptions> = {}): CertificateStore {
  return createCertificateStore({
    request: async (identity) => authority.request(identity),
    logger: createLogger({
      scope: 'test',
      level: 'fatal',
      format: 'json',
      sink: { write: () => undefined },
    }),
    clock,
    random: () => 0,
    ...options,
  });
}

describe('asking the authority', () => {
  test('test_concurrency', async () => {
    authority.mode = 'by-hand';
    const store = makeStore({ maxConcurrent: 3 });
    const names = Array.from({ length: 10 }, (_, index) => `sa-${index}`);
    for (const name of names) store.hold(identityOf(name));
    let most = 0;
    while (authority.open.length > 0) {
      most = Math.max(most, authority.open.length);
      authority.open.shift()?.give();
      await settle();
    }
    expect(most).toBe(3);
    expect([...authority.asked].sort()).toEqual([...names].sort());
  });

  test('test_priority', async () => {
    authority.mode = 'by-hand';
    const store = makeStore({ maxConcurrent: 1 });
    for (const identity of [alice, bob, carol]) store.hold(identity);
    // Somebody waits for the last of them.
    const waiting = store.acquire(carol.uri, 1_000);
    authority.open.shift()?.give();
    await settle();
    expect(authority.asked).toEqual(['alice', 'carol']);
    authority.open.shift()?.give();
    expect((await waiting).identity).toBe(carol);
    await settle();
    expect(authority.asked).toEqual(['alice', 'carol', 'bob']);
  });

  test('a renewal waits behind those that have none yet', async () => {
    const store = makeStore({ maxConcurrent: 1 });
    store.hold(alice);
    await settle();
    authority.mode = 'by-hand';
    store.hold(bob);
    await clock.pass(lifeMs / 3);
    store.hold(carol);
    authority.open.shift()?.give();
    await settle();
    expect(authority.asked).toEqual(['alice', 'bob', 'carol']);
  });

  test('test_duplicate_requests', async () => {
    authority.mode = 'by-hand';
    const store = makeStore();
    store.hold(alice);
    store.hold(alice);
    const all = Array.from({ length: 50 }, async () => store.acquire(alice.uri, 1_000));
    expect(authority.asked).toEqual(['alice']);
    authority.open.shift()?.give();
    const certificates = new Set(await Promise.all(all));
    expect(certificates.size).toBe(1);
  });

  test('test_stress_caching', async () => {
    const store = makeStore();
    const identities = Array.from({ length: 100 }, (_, index) => identityOf(`sa-${index}`));
    for (const identity of identities) store.hold(identity);
    for (let round = 0; round < 20; round += 1) {
      await Promise.all(identities.map(async ({ uri }) => store.acquire(uri, 1_000)));
      await clock.pass(60_000);
    }
    expect(authority.asked).toHaveLength(100);
  });
});

describe('letting go', () => {
  test('test_forget_pending', async () => {
    authority.mode = 'by-hand';
    const store = makeStore();
    store.hold(alice);
    const waiting = store.acquire(alice.uri, 1_000);
    store.release(alice);
    await expect(waiting).rejects.toThrow('the last workload with this identity is gone');
    // An answer that comes after all is of no use to anybody.
    authority.open.shift()?.give();
    await settle();
    expect(store.view()).toEqual([]);
    expect(store.current(alice.uri)).toBeUndefined();
  });

  test('held again while the old answer is on its way: the new request counts', async () => {
    authority.mode = 'by-hand';
    const store = makeStore();
    store.hold(alice);
    store.release(alice);
    store.hold(alice);
    expect(authority.asked).toEqual(['alice', 'alice']);
    authority.open.shift()?.give();
    await settle();
    expect(store.current(alice.uri)).toBeUndefined();
    authority.open.shift()?.give();
    await settle();
    expect(store.current(alice.uri)).toBeDefined();
  });

  test('only the last release forgets', async () => {
    const store = makeStore();
    store.hold(alice);
    store.hold(alice);
    await settle();
    store.release(alice);
    expect(store.current(alice.uri)).toBeDefined();
    store.release(alice);
    expect(store.current(alice.uri)).toBeUndefined();
    await expect(store.acquire(alice.uri, 1_000)).rejects.toMatchObject({
      code: 'identity/not-held',
    });
  });

  test('a closed store gives nothing and asks nothing', async () => {
    authority.mode = 'by-hand';
    const store = makeStore();
    store.hold(alice);
    const waiting = store.acquire(alice.uri, 1_000);
    store.close();
    await expect(waiting).rejects.toThrow('the proxy is stopping');
    await clock.pass(lifeMs);
    expect(authority.asked).toEqual(['alice']);
  });
});

describe('renewal', () => {
  test('a third into its life, and who must know is told', async () => {
    const changed: WorkloadCertificate[] = [];
    const store = makeStore({ onChange: (certificate) => void changed.push(certificate) });
    store.hold(alice);
    await settle();
    const first = store.current(alice.uri);
    await clock.pass(lifeMs / 3 - 1);
    expect(authority.asked).toHaveLength(1);
    await clock.pass(1);
    await settle();
    expect(authority.asked).toHaveLength(2);
    expect(store.current(alice.uri)).not.toBe(first);
    expect(changed).toEqual([store.current(alice.uri)]);
  });

  test('many that came together are not renewed together', async () => {
    let last = 0;
    const store = makeStore({ random: () => (last = (last + 0.37) % 1) });
    for (let index = 0; index < 100; index += 1) store.hold(identityOf(`sa-${index}`));
    await settle();
    const perMinute: number[] = [];
    for (let minute = 0; minute < (lifeMs / 3 / 60_000) * 1.1; minute += 1) {
      const before = authority.asked.length;
      await clock.pass(60_000);
      perMinute.push(authority.asked.length - before);
    }
    expect(authority.asked.length).toBeGreaterThanOrEqual(200);
    expect(Math.max(...perMinute.slice(1))).toBeLessThan(20);
  });

  test('test_certificate_retention_on_refresh_failure', async () => {
    const store = makeStore();
    store.hold(alice);
    await settle();
    const first = store.current(alice.uri);
    authority.mode = 'refuse';
    await clock.pass(lifeMs - 1);
    expect(store.current(alice.uri)).toBe(first);
    expect(store.view()).toMatchObject([{ state: 'valid', lastError: 'the authority is away' }]);
    // Past its end it is never given out.
    await clock.pass(1);
    expect(store.current(alice.uri)).toBeUndefined();
    expect(store.view()).toMatchObject([{ state: 'expired' }]);
    const late = store.acquire(alice.uri, 500);
    const outcome = expect(late).rejects.toThrow('the authority is away');
    await clock.pass(500);
    await outcome;
  });

  test('test_backoff_resets_on_successful_fetch_after_failure', async () => {
    // `random` at its end: each pause is as long as it may be.
    const store = makeStore({ random: () => 0.999 });
    authority.mode = 'refuse';
    store.hold(alice);
    await clock.pass(10_000);
    const failed = authority.asked.length;
    expect(failed).toBeGreaterThan(4);
    expect(failed).toBeLessThan(10);
    authority.mode = 'give';
    await clock.pass(150_000);
    expect(store.current(alice.uri)).toBeDefined();
    authority.mode = 'refuse';
    await clock.pass(lifeMs / 3);
    const again = authority.asked.length;
    await clock.pass(1_000);
    expect(authority.asked.length - again).toBeLessThan(4);
    expect(store.current(alice.uri)).toBeDefined();
  });

  test('a machine that slept renews within five seconds of waking', async () => {
    const store = makeStore();
    store.hold(alice);
    await settle();
    await clock.pass(hourMs);
    clock.sleep(lifeMs / 2);
    await clock.pass(5_000);
    expect(authority.asked).toHaveLength(2);
    expect(store.view()).toMatchObject([{ state: 'valid' }]);
  });

  test('after a sleep past its end the old one is not given out for a moment', async () => {
    const store = makeStore();
    store.hold(alice);
    await settle();
    clock.sleep(2 * lifeMs);
    expect(store.current(alice.uri)).toBeUndefined();
    const waiting = store.acquire(alice.uri, 10_000);
    await clock.pass(5_000);
    expect((await waiting).notAfter.getTime()).toBeGreaterThan(clock.now());
  });

  test('what is stale is made anew soon, and nothing else is', async () => {
    const store = makeStore({ random: () => 0.5 });
    for (const identity of [alice, bob]) store.hold(identity);
    await settle();
    const [ofAlice, ofBob] = [alice, bob].map(({ uri }) => store.current(uri));
    store.renew((certificate) => certificate === ofAlice);
    await clock.pass(2_000);
    await settle();
    expect(store.current(alice.uri)).not.toBe(ofAlice);
    expect(store.current(bob.uri)).toBe(ofBob);
  });

  test('what was under way when it became stale is asked for once more', async () => {
    const store = makeStore();
    authority.mode = 'by-hand';
    store.hold(alice);
    await settle();
    store.renew(() => true);
    authority.open.shift()?.give();
    await settle();
    const first = store.current(alice.uri);
    await clock.pass(2_000);
    expect(authority.asked).toHaveLength(2);
    authority.open.shift()?.give();
    await settle();
    expect(store.current(alice.uri)).not.toBe(first);
    await clock.pass(60_000);
    expect(authority.asked).toHaveLength(2);
  });
});
