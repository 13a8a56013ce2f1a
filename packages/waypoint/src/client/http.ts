import type { Socket } from 'node:net';
import type { ProviderAddress } from '@ambit/api';
import { MeshError } from '@ambit/core';
import type { buildConnector } from 'undici';
import { Pool } from 'undici';
import { HeaderList } from '../http/headers.ts';
import { BoundedMap } from './bounded-map.ts';
import { deadlineOf } from './deadline.ts';
import type { Reach } from './reach.ts';
import { formatAddress } from './reach.ts';

/** One question to somebody whom the proxy itself asks. */
export interface HttpCall {
  readonly address: ProviderAddress;
  readonly method: string;
  /** Origin form. */
  readonly path: string;
  readonly headers: Iterable<readonly [name: string, value: string]>;
  readonly body?: Buffer | undefined;
  /** For everything: connecting, asking, the whole answer. */
  readonly timeoutMs: number;
  readonly maxAnswerBytes: number;
  /** Who wanted to know is gone. */
  readonly signal?: AbortSignal | undefined;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: HeaderList;
  readonly body: Buffer;
}

/** Asks over HTTP/1.1; connections are kept and used again, redirects are answers like any other. */
export interface HttpClient {
  /** Fails when there is no whole answer in time, and when it is longer than allowed. */
  request(call: HttpCall): Promise<HttpAnswer>;
  close(): Promise<void>;
}

const maxPools = 64;
const maxConnections = 64;
const maxAnswerHeadBytes = 64 * 1024;

export function createHttpClient(reach: Reach): HttpClient {
  const pools = new BoundedMap<Pool>(maxPools, (pool) => void destroy(pool));
  const poolOf = (address: ProviderAddress): Pool => {
    const key = formatAddress(address);
    let pool = pools.get(key);
    if (pool === undefined) {
      pool = new Pool(`http://${originOf(address)}`, {
        connections: maxConnections,
        pipelining: 1,
        maxHeaderSize: maxAnswerHeadBytes,
        headersTimeout: 0,
        bodyTimeout: 0,
        connect: connector(reach, address),
      });
      pools.set(key, pool);
    }
    return pool;
  };
  return {
    async request(call) {
      const deadline = deadlineOf(call.timeoutMs, call.signal);
      try {
        const answer = await poolOf(call.address).request({
          method: call.method,
          path: call.path,
          headers: [...call.headers].flat(),
          body: call.body ?? null,
          signal: deadline.signal,
          responseHeaders: 'raw',
        });
        const body = await wholeBody(answer.body, call.maxAnswerBytes);
        return { status: answer.statusCode, headers: headersOf(answer.headers), body };
      } finally {
        deadline.clear();
      }
    },
    async close() {
      const all = [...pools.values()];
      pools.clear();
      await Promise.all(all.map(destroy));
    },
  };
}

async function destroy(pool: Pool): Promise<void> {
  await pool.destroy().catch(() => undefined);
}

function originOf({ host, port }: ProviderAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function connector(reach: Reach, address: ProviderAddress): buildConnector.connector {
  return (_options, done) => {
    // `reach` throws where nobody is there; this way that too is a failed connection.
    Promise.resolve()
      .then(() => reach(address).connect())
      // undici only uses what every Duplex has.
      .then(
        (stream) => done(null, stream as unknown as Socket),
        (error: unknown) => done(error instanceof Error ? error : new Error(String(error)), null),
      );
  };
}

async function wholeBody(body: AsyncIterable<Buffer>, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    // Leaving the loop destroys the body and with it the connection.
    if (bytes > maxBytes)
      throw new MeshError('client/too-long', `an answer over ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  const [only] = chunks;
  return chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks);
}

/** Of `responseHeaders: 'raw'` undici makes a flat list, which its types do not know. */
function headersOf(raw: unknown): HeaderList {
  const headers = new HeaderList();
  const fields: readonly unknown[] = Array.isArray(raw) ? (raw as unknown[]) : [];
  for (let at = 0; at + 1 < fields.length; at += 2) {
    headers.append(textOf(fields[at]).toLowerCase(), textOf(fields[at + 1]));
  }
  return headers;
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : Buffer.isBuffer(value) ? value.toString('latin1') : '';
}
