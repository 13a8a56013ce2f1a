import type { IncomingMessage } from 'node:http';
import { createServer } from 'node:http';
import type { Duplex } from 'node:stream';
import { duplexPair } from 'node:stream';
import type { ByteSink, ByteStream } from '@ambit/core';
import { HeaderList } from '../src/http/headers.ts';
import type { ServerExchange } from '../src/http/message.ts';
import { defaultHttp1Limits } from '../src/http1/limits.ts';
import { Http1ServerConnection } from '../src/http1/server.ts';

/** What a parser made of a request. Node tells the head at once, and no body when what follows breaks its parser. */
export interface Read {
  readonly head: string;
  body: string | undefined;
}

/** Node's own parser, llhttp in its strict mode, over a pair of streams. */
const node = createServer({ maxHeaderSize: 64 * 1024, requireHostHeader: true });
const readFrom = new WeakMap<object, Read[]>();
node.on('request', (request: IncomingMessage, response) => {
  const chunks: Buffer[] = [];
  const read: Read = { head: `${request.method ?? ''} ${pathOf(request.url)}`, body: undefined };
  readFrom.get(request.socket)?.push(read);
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('error', () => undefined);
  request.on('end', () => {
    if (request.complete) read.body = Buffer.concat(chunks).toString('latin1');
    response.end();
  });
});
node.on('checkContinue', (request, response) => node.emit('request', request, response));
node.on('clientError', (_error, socket: Duplex) => socket.destroy());

/** A proxy takes the place out of an absolute target; what it names is compared by itself. */
export function pathOf(target = ''): string {
  const path = /^https?:\/\/[^/?#]+(.*)$/i.exec(target)?.[1] ?? target;
  return path.startsWith('/') || path === '*' ? path : `/${path}`;
}

/** What Node reads of these bytes. */
export async function byNode(bytes: Buffer): Promise<readonly Read[]> {
  const [near, far] = duplexPair();
  const read: Read[] = [];
  readFrom.set(far, read);
  near.on('error', () => undefined);
  far.on('error', () => undefined);
  near.resume();
  node.emit('connection', far);
  near.write(bytes);
  await new Promise((resolve) => setImmediate(() => setImmediate(() => setImmediate(resolve))));
  near.destroy();
  far.destroy();
  return read;
}

/** Our codec on a stream that takes every answer. */
export function byUs(bytes: Buffer): readonly Read[] {
  const read: Read[] = [];
  let sink: ByteSink | undefined;
  const stream: ByteStream = {
    attach: (one) => (sink = one),
    write: () => true,
    end: () => undefined,
    abort: () => undefined,
    pause: () => undefined,
    resume: () => undefined,
  };
  const connection = new Http1ServerConnection(stream, {
    limits: defaultHttp1Limits,
    onMalformed: () => undefined,
    onClosed: () => undefined,
    onRequest: (exchange: ServerExchange) => {
      const chunks: Buffer[] = [];
      exchange.attach(
        { drain: () => undefined, gone: () => undefined },
        {
          data: (chunk) => chunks.push(chunk),
          end: () => {
            const { method, path } = exchange.request;
            const body = Buffer.concat(chunks).toString('latin1');
            read.push({ head: `${method} ${path}`, body });
            exchange.respond({ status: 200, headers: new HeaderList() }, false);
          },
        },
      );
    },
  });
  sink?.data(bytes);
  sink?.close();
  if (!connection.closed) throw new Error('the connection is still open');
  return read;
}

/** A generator of its own, so that a failure can be had again by its number. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

const seeds = [
  'GET / HTTP/1.1\r\nHost: x\r\n\r\n',
  'GET /a?b=c HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nUser-Agent: me\r\n\r\nGET /second HTTP/1.1\r\nHost: x\r\n\r\n',
  'POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello',
  'POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET /next HTTP/1.1\r\nHost: x\r\n\r\n',
  'POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
  'POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\nGET /after HTTP/1.1\r\nHost: x\r\n\r\n',
  'PUT /u HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\nDELETE /d HTTP/1.1\r\nHost: x\r\n\r\n',
  'OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n',
  'GET http://x/abs HTTP/1.1\r\nHost: x\r\n\r\n',
  'POST /s HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n',
];
const splices = [
  '\r\n',
  '\n',
  '\r',
  '\0',
  ' ',
  '\t',
  ':',
  ',',
  ';',
  '0',
  'f',
  '+1',
  '0x1',
  'Content-Length: 3\r\n',
  'Content-Length: 0\r\n',
  'Transfer-Encoding: chunked\r\n',
  'Transfer-Encoding: identity\r\n',
  'transfer-encoding : chunked\r\n',
  'Transfer-Encoding: xchunked\r\n',
  'Host: y\r\n',
  'Connection: close\r\n',
  ' folded\r\n',
  '\x0b',
  '\xff',
  '0\r\n\r\n',
  'GET /x HTTP/1.1\r\nHost: x\r\n\r\n',
];

export interface Mutant {
  readonly bytes: Buffer;
  /** What it was made of, where nothing was changed. */
  readonly seed: string | undefined;
}

/** A message with up to three changes; `mark` makes its paths its own. */
export function mutated(random: () => number, mark = ''): Mutant {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  const seed = pick(seeds);
  const marked = (text: string): string =>
    mark === '' ? text : text.replaceAll(/ (https?:..x)?[/]/g, ` $1/${mark}`);
  let text = marked(seed);
  const changes = Math.floor(random() * 4);
  for (let count = 0; count < changes; count += 1) {
    const at = Math.floor(random() * (text.length + 1));
    const cut = random() < 0.4 ? Math.floor(random() * 4) : 0;
    text = text.slice(0, at) + (random() < 0.8 ? marked(pick(splices)) : '') + text.slice(at + cut);
  }
  return { bytes: Buffer.from(text, 'latin1'), seed: changes === 0 ? seed : undefined };
}

// `npm run fuzz:http1` sets both.
export const firstSeed = Number(process.env['FUZZ_SEED'] ?? 1);
export const fuzzCount = Number(process.env['FUZZ_COUNT'] ?? 0);
