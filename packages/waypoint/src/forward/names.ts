import { Resolver } from 'node:dns/promises';
import type { Hostname, IpAddress } from '@ambit/api';
import { cidrContains, parseCidr, parseIp } from '@ambit/api';

/** One answer of DNS: addresses and for how long they hold. */
export interface NameAnswer {
  readonly addresses: readonly string[];
  readonly ttlSeconds: number;
}

export interface NamesOptions {
  /** Asks for both families; rejects where there is no answer. Made on `node:dns` when absent. */
  readonly lookup?: (hostname: Hostname) => Promise<NameAnswer>;
  /** False for a name that nobody needs any more. */
  readonly isNeeded: (hostname: Hostname) => boolean;
  /** Some name has other addresses now. */
  readonly onChange: () => void;
}

/** Names of endpoints, looked up when first asked for and kept fresh while they are needed. */
export interface Names {
  /** What is known now: the last good answer, or nothing yet. */
  addressesOf(hostname: Hostname): readonly IpAddress[];
  /** Resolves when the name has been looked up once, at the latest after `ms`. */
  settled(hostname: Hostname, ms: number): Promise<void>;
  close(): void;
}

const maxNames = 1_000;
const maxAddresses = 64;
const maxLookups = 16;
const minTtlMs = 5_000;
const maxTtlMs = 300_000;
const retryMs = 5_000;
const defaultTtlSeconds = 30;

/** What an answer must not lead to: the proxy's own machine. */
const reserved = [
  '127.0.0.0/8',
  '0.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/4',
  '::/127',
  'fe80::/10',
]
  .map(parseCidr)
  .flatMap((cidr) => (cidr.ok ? [cidr.value] : []));

interface Known {
  addresses: readonly IpAddress[];
  timer: NodeJS.Timeout | undefined;
  settled: boolean;
  readonly waiting: (() => void)[];
}

export function createNames(options: NamesOptions): Names {
  const lookup = options.lookup ?? systemLookup();
  const names = new Map<Hostname, Known>();
  const queue: Hostname[] = [];
  let running = 0;
  let closed = false;

  const next = (): void => {
    while (running < maxLookups) {
      const hostname = queue.shift();
      if (hostname === undefined) return;
      running += 1;
      void refresh(hostname).finally(() => {
        running -= 1;
        next();
      });
    }
  };
  const refresh = async (hostname: Hostname): Promise<void> => {
    const known = names.get(hostname);
    if (known === undefined || closed) return;
    let afterMs = retryMs;
    try {
      const answer = await lookup(hostname);
      const addresses = usable(answer.addresses);
      afterMs = Math.min(maxTtlMs, Math.max(minTtlMs, answer.ttlSeconds * 1000));
      const isSame = addresses.join() === known.addresses.join();
      // An answer without an address is none: the last good one stays.
      if (addresses.length > 0 && !isSame) {
        known.addresses = addresses;
        options.onChange();
      }
    } catch {
      // The last good answer stays until there is a better one.
    }
    known.settled = true;
    for (const wake of known.waiting.splice(0)) wake();
    again(hostname, known, afterMs);
  };
  const again = (hostname: Hostname, known: Known, afterMs: number): void => {
    if (closed || names.get(hostname) !== known) return;
    known.timer = setTimeout(() => {
      if (options.isNeeded(hostname)) {
        queue.push(hostname);
        next();
      } else names.delete(hostname);
    }, afterMs);
    known.timer.unref();
  };
  const knownOf = (hostname: Hostname): Known | undefined => {
    const known = names.get(hostname);
    if (known !== undefined || closed || names.size >= maxNames) return known;
    const made: Known = { addresses: [], timer: undefined, settled: false, waiting: [] };
    names.set(hostname, made);
    queue.push(hostname);
    next();
    return made;
  };
  return {
    addressesOf: (hostname) => knownOf(hostname)?.addresses ?? [],
    settled: (hostname, ms) => {
      const known = knownOf(hostname);
      if (known === undefined || known.settled) return Promise.resolve();
      return new Promise((resolve) => {
        const timer = setTimeout(resolve, ms);
        known.waiting.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    },
    close: () => {
      closed = true;
      for (const { timer, waiting } of names.values()) {
        clearTimeout(timer);
        for (const wake of waiting.splice(0)) wake();
      }
      names.clear();
    },
  };
}

function usable(addresses: readonly string[]): readonly IpAddress[] {
  return addresses
    .flatMap((text) => {
      const ip = parseIp(text);
      return ip.ok && !reserved.some((range) => cidrContains(range, ip.value)) ? [ip.value] : [];
    })
    .sort()
    .slice(0, maxAddresses);
}

function systemLookup(): (hostname: Hostname) => Promise<NameAnswer> {
  const resolver = new Resolver({ timeout: 2_000, tries: 2 });
  return async (hostname) => {
    const answers = await Promise.allSettled([
      resolver.resolve4(hostname, { ttl: true }),
      resolver.resolve6(hostname, { ttl: true }),
    ]);
    const records = answers.flatMap((one) => (one.status === 'fulfilled' ? one.value : []));
    if (records.length === 0) throw new Error(`${hostname} has no address`);
    return {
      addresses: records.map(({ address }) => address),
      ttlSeconds: Math.min(...records.map(({ ttl }) => ttl)) || defaultTtlSeconds,
    };
  };
}
