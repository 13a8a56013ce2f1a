// The load: one kind of work against one address, its result as one line of JSON.
import type { Socket } from 'node:net';
import { connect } from 'node:net';
import type { LoadResult, Work } from './work.ts';

const messageBytes = 64;
const message = Buffer.alloc(messageBytes, 'x');
const bulkChunk = Buffer.alloc(256 * 1024, 'x');

const [host = '', portText = '', workText = '{}'] = process.argv.slice(2);
const port = Number(portText);
const work = JSON.parse(workText) as Work;

switch (work.kind) {
  case 'request-response':
    report(await requestResponse(work.connections, work.seconds));
    break;
  case 'connections':
    report(await connections(work.concurrency, work.seconds));
    break;
  case 'bulk':
    report(await bulk(work.streams, work.seconds));
    break;
  case 'idle':
    report(await idle(work.connections, work.seconds));
    break;
}

function report(result: LoadResult): void {
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

function open(toPort: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: toPort, noDelay: true, allowHalfOpen: true }, () => {
      resolve(socket);
    });
    socket.once('error', reject);
  });
}

/** Sends one message and waits until all of it came back. */
function exchange(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    let missing = messageBytes;
    const onData = (chunk: Buffer): void => {
      missing -= chunk.length;
      if (missing > 0) return;
      settle();
      resolve();
    };
    const onEnd = (): void => {
      settle();
      reject(new Error('the connection ended inside a message'));
    };
    const settle = (): void => {
      socket.off('data', onData);
      socket.off('close', onEnd);
    };
    socket.on('data', onData);
    socket.on('close', onEnd);
    socket.write(message);
  });
}

async function requestResponse(count: number, seconds: number): Promise<LoadResult> {
  const sockets = await Promise.all(Array.from({ length: count }, () => open(port)));
  await Promise.all(sockets.map((socket) => exchange(socket)));
  const latencies: number[] = [];
  const started = performance.now();
  const until = started + seconds * 1000;
  await Promise.all(
    sockets.map(async (socket) => {
      while (performance.now() < until) {
        const sent = performance.now();
        await exchange(socket);
        latencies.push(performance.now() - sent);
      }
    }),
  );
  const elapsed = (performance.now() - started) / 1000;
  for (const socket of sockets) socket.destroy();
  latencies.sort((a, b) => a - b);
  return {
    units: latencies.length,
    seconds: elapsed,
    p50Ms: latencies[Math.floor(latencies.length * 0.5)] ?? 0,
    p99Ms: latencies[Math.floor(latencies.length * 0.99)] ?? 0,
  };
}

async function connections(concurrency: number, seconds: number): Promise<LoadResult> {
  let units = 0;
  const started = performance.now();
  const until = started + seconds * 1000;
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      while (performance.now() < until) {
        const socket = await open(port);
        await exchange(socket);
        socket.destroy();
        units += 1;
      }
    }),
  );
  return { units, seconds: (performance.now() - started) / 1000 };
}

async function bulk(streams: number, seconds: number): Promise<LoadResult> {
  const started = performance.now();
  const until = started + seconds * 1000;
  const counts = await Promise.all(
    Array.from({ length: streams }, async () => {
      const socket = await open(port + 1);
      const answer = socket.toArray() as Promise<Buffer[]>;
      let sent = 0;
      while (performance.now() < until) {
        sent += bulkChunk.length;
        if (!socket.write(bulkChunk)) await new Promise((resolve) => socket.once('drain', resolve));
      }
      socket.end();
      const received = Number(Buffer.concat(await answer).toString());
      if (received !== sent) throw new Error(`sent ${sent} bytes, ${received} arrived`);
      return received;
    }),
  );
  const bytes = counts.reduce((sum, count) => sum + count, 0);
  return { units: bytes / 2 ** 30, seconds: (performance.now() - started) / 1000 };
}

/** Opens connections that say nothing more, and holds them for a while. */
async function idle(count: number, seconds: number): Promise<LoadResult> {
  const until = performance.now() + seconds * 1000;
  const sockets: Socket[] = [];
  while (sockets.length < count) {
    const size = Math.min(50, count - sockets.length);
    const batch = await Promise.all(Array.from({ length: size }, () => open(port)));
    await Promise.all(batch.map((socket) => exchange(socket)));
    sockets.push(...batch);
  }
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, until - performance.now())));
  for (const socket of sockets) socket.destroy();
  return { units: sockets.length, seconds };
}
