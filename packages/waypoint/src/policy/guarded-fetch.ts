import { lookup as dnsLookup } from 'node:dns/promises';
import type { LookupFunction, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as tlsConnect } from 'node:tls';
import type { Cidr, IpAddress } from '@ambit/api';
import { cidrContains, familyOf, parseCidr, parseIp } from '@ambit/api';
import { MeshError } from '@ambit/core';
import type { buildConnector } from 'undici';
import { Agent, request } from 'undici';

export interface GuardOptions {
  /** Ranges that may be asked although they are closed by default. */
  readonly allowed?: readonly Cidr[];
  /** Addresses of the mesh: whoever wants them names their Service. */
  readonly isOfMesh?: (ip: IpAddress) => boolean;
  /** A stream to a service of the mesh, through the mesh; undefined for a name that is none. May throw. */
  readonly openService?: (url: URL, port: number) => Promise<Duplex> | undefined;
  /** All addresses of a name; the system's resolver by default. */
  readonly resolve?: (hostname: string) => Promise<readonly IpAddress[]>;
}

/** The proxy itself, its node, clouds' metadata, and nobody: no key server is there, not even behind a Service. */
const never = rangesOf(
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/4',
  '240.0.0.0/4',
  '::/96',
  '::ffff:0:0:0/96',
  'fe80::/10',
  'ff00::/8',
);

/** Inside of a network, or a way in: whoever can write an address must not reach them through the proxy. */
const closed = [
  ...never,
  ...rangesOf(
    '10.0.0.0/8',
    '100.64.0.0/10',
    '172.16.0.0/12',
    '192.0.0.0/24',
    '192.168.0.0/16',
    '198.18.0.0/15',
    '64:ff9b::/96',
    '64:ff9b:1::/48',
    '2002::/16',
    'fc00::/7',
    'fec0::/10',
  ),
];

function rangesOf(...texts: readonly string[]): readonly Cidr[] {
  return texts.map((text) => {
    const range = parseCidr(text);
    if (!range.ok) throw new TypeError(range.error.message);
    return range.value;
  });
}

/** Refuses what is wrong with the URL itself, so that whoever wrote it may be told why. */
export function refused(message: string): MeshError {
  return new MeshError(refusedCode, message);
}
export const refusedCode = 'fetch/refused';

/** Throws where an endpoint of a service is where no key server can be. */
export function checkEndpoint(hostname: string, ip: IpAddress): void {
  if (never.some((range) => cidrContains(range, ip))) {
    throw refused(`${hostname} is at ${ip}, which may not be asked`);
  }
}

const maxBytes = 1024 * 1024;

/**
 * GETs what a user's configuration names: a service of the mesh through the mesh, anything else at the one address that
 * its name had when it was asked, which may be none of the closed ones. No redirects, 1 MiB, `timeoutMs` for all of it.
 * Throws with the reason.
 */
export async function guardedFetch(
  url: URL,
  timeoutMs: number,
  options: GuardOptions,
): Promise<string> {
  const signal = AbortSignal.timeout(timeoutMs);
  const hostname = url.hostname.replace(/^\[|\]$/g, '');
  const port = Number(url.port) || (url.protocol === 'https:' ? 443 : 80);
  const opening = options.openService?.(url, port);
  // One that comes too late is nobody's.
  opening?.then(
    (stream) => signal.aborted && stream.destroy(),
    () => undefined,
  );
  const connect =
    opening === undefined
      ? {
          lookup: pinned(await unlessAborted(addressFor(hostname, options), signal)),
          timeout: timeoutMs,
        }
      : over(await unlessAborted(opening, signal), url, hostname);
  return get(url, new Agent({ connect, maxResponseSize: maxBytes }), signal);
}

/** The name is not asked again, so it cannot answer differently the second time. */
function pinned(address: IpAddress): LookupFunction {
  const family = familyOf(address) === 'IPv6' ? 6 : 4;
  return (_host, { all }, done) => {
    if (all === true) done(null, [{ address, family }]);
    else done(null, address, family);
  };
}

/** Speaks on a stream that is there already, for one question only. */
function over(stream: Duplex, url: URL, servername: string): buildConnector.connector {
  let taken = false;
  return (_options, done) => {
    // Never before this function returns: undici would go round for ever. Nor a second time, for the same reason.
    queueMicrotask(() => {
      if (taken) {
        done(new Error('the connection ended before an answer'), null);
        return;
      }
      taken = true;
      const socket =
        url.protocol === 'https:' ? tlsConnect({ socket: stream, servername }) : stream;
      // undici only uses what every Duplex has.
      done(null, socket as Socket);
    });
  };
}

async function get(url: URL, dispatcher: Agent, signal: AbortSignal): Promise<string> {
  try {
    const answer = await request(url, {
      dispatcher,
      signal,
      headers: { accept: 'application/json' },
    });
    if (answer.statusCode !== 200) {
      await answer.body.dump();
      throw new Error(`HTTP ${answer.statusCode}; redirects are not followed`);
    }
    return await answer.body.text();
  } finally {
    void dispatcher.destroy().catch(() => undefined);
  }
}

async function addressFor(
  hostname: string,
  { allowed = [], isOfMesh = () => false, resolve = addressesOf }: GuardOptions,
): Promise<IpAddress> {
  const literal = parseIp(hostname);
  const found = literal.ok ? [literal.value] : await resolve(hostname);
  const [first] = found;
  if (first === undefined) throw new Error(`${hostname} has no address`);
  for (const ip of found) {
    const isAllowed = allowed.some((range) => cidrContains(range, ip));
    // Which of a network's addresses are taken is nobody's business: the two refusals read the same.
    if (isOfMesh(ip) || (!isAllowed && closed.some((range) => cidrContains(range, ip)))) {
      throw refused(
        `${hostname} is at ${ip}, which may not be asked: name a Service, or have the range allowed (JWKS_ALLOWED_CIDRS)`,
      );
    }
  }
  return first;
}

async function addressesOf(hostname: string): Promise<IpAddress[]> {
  const found = await dnsLookup(hostname, { all: true });
  return found.flatMap(({ address }) => {
    const ip = parseIp(address);
    return ip.ok ? [ip.value] : [];
  });
}

function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const aborted = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', aborted, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', aborted));
  });
}
