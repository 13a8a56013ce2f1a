import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { ExecOptions, StreamClient } from './exec.ts';
import { acceptSpdySession, type SpdyStream } from './spdy.ts';
import { resize } from './websocket.ts';

const protocolHeader = 'x-stream-protocol-version';
const protocol = 'v4.channel.k8s.io';
const streamsTimeoutMs = 30_000;

/** Accepts an exec or attach over SPDY/3.1: the client opens a stream for each of its pipes. */
export async function acceptSpdy(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  options: ExecOptions,
): Promise<StreamClient> {
  const offered = String(request.headers[protocolHeader] ?? '')
    .split(',')
    .map((name) => name.trim());
  if (!offered.includes(protocol)) {
    throw new Error(
      `unable to upgrade: unable to negotiate protocol: client supports ${offered.join(', ')}, server accepts ${protocol}`,
    );
  }
  const answer = [
    'HTTP/1.1 101 Switching Protocols',
    'Connection: Upgrade',
    'Upgrade: SPDY/3.1',
    `X-Stream-Protocol-Version: ${protocol}`,
  ];
  socket.write(`${answer.join('\r\n')}\r\n\r\n`);
  const wanted = [
    'error',
    ...(['stdin', 'stdout', 'stderr'] as const).filter((name) => options[name]),
    ...(options.tty ? ['resize'] : []),
  ];
  const streams = new Map<string, SpdyStream>();
  const early: Buffer[] = [];
  let inputEnded = false;
  const complete = Promise.withResolvers<undefined>();
  const session = acceptSpdySession(socket, head, (stream) => {
    const kind = stream.headers.get('streamtype') ?? '';
    streams.set(kind, stream);
    // Input may come before the command that reads it runs.
    if (kind === 'stdin') {
      stream.onData = (data) => void early.push(data);
      stream.onEnd = () => (inputEnded = true);
    }
    if (wanted.every((name) => streams.has(name))) complete.resolve(undefined);
  });
  const timer = setTimeout(
    () => complete.reject(new Error('the client did not open its streams in time')),
    streamsTimeoutMs,
  );
  session.onClose(() => complete.reject(new Error('the client went before its streams were open')));
  try {
    await complete.promise;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
  }
  return {
    async write(kind, data) {
      await streams.get(kind)?.write(data);
    },
    async finish(status) {
      await streams.get('error')?.write(Buffer.from(JSON.stringify(status)));
      for (const stream of streams.values()) stream.end();
      session.close();
    },
    onStdin(listener) {
      const stream = streams.get('stdin');
      for (const data of early.splice(0)) listener(data);
      if (stream !== undefined) stream.onData = listener;
    },
    onStdinEnd(listener) {
      const stream = streams.get('stdin');
      if (inputEnded) listener();
      else if (stream !== undefined) stream.onEnd = listener;
    },
    onResize(listener) {
      const stream = streams.get('resize');
      if (stream !== undefined) stream.onData = (data) => resize(data, listener);
    },
    onClose: (listener) => session.onClose(listener),
  };
}
