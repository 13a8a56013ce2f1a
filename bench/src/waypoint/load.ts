import { connect } from 'node:net';
import type { ByteStream, ClientSession } from '@ambit/core';
import { socketStream } from '@ambit/core';
import type { IpAddress, Port } from '@ambit/api';

/** Every answer ends with it, so that the load needs no parser. */
export const endMark = '\n#END#';

export interface LoadResult {
  readonly requests: number;
  /** Milliseconds of single requests, sorted. */
  readonly latencies: readonly number[];
}

export type Open = () => Promise<ByteStream>;

export function overTcp(port: number): Open {
  return () =>
    new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, noDelay: true, allowHalfOpen: true });
      socket.once('error', reject);
      socket.once('connect', () => resolve(socketStream(socket)));
    });
}

export function overTunnel(session: ClientSession, vip: string): Open {
  return async () => {
    const { stream } = await session.openTunnel({
      authority: { kind: 'address', ip: vip as IpAddress, port: 80 as Port },
      headers: [],
      timeoutMs: 3000,
    });
    return stream;
  };
}

/** Keeps `connections` busy with one request after the other for a while. */
export async function load(
  open: Open,
  connections: number,
  path: string,
  ms: number,
): Promise<LoadResult> {
  const request = Buffer.from(
    `GET ${path} HTTP/1.1\r\nhost: shop.test\r\nuser-agent: bench\r\naccept: */*\r\n\r\n`,
  );
  const deadline = performance.now() + ms;
  const latencies: number[] = [];
  await Promise.all(
    Array.from({ length: connections }, async () => {
      const stream = await open();
      await new Promise<void>((resolve, reject) => {
        let sentAt = performance.now();
        stream.attach({
          data: (chunk) => {
            if (chunk.toString('latin1', Math.max(0, chunk.length - endMark.length)) !== endMark)
              return;
            const now = performance.now();
            latencies.push(now - sentAt);
            if (now >= deadline) {
              stream.abort(new Error('done'));
              resolve();
              return;
            }
            sentAt = now;
            stream.write(request);
          },
          end: () => reject(new Error('the proxy ended the connection')),
          drain: () => undefined,
          close: () => resolve(),
        });
        stream.write(request);
      });
    }),
  );
  return { requests: latencies.length, latencies: latencies.sort((a, b) => a - b) };
}
