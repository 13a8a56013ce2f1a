import { describe, expect, test } from '@jest/globals';
import type { ByteSink, ByteStream } from '@ambit/core';
import { HeaderList } from '../http/headers.ts';
import type { HttpError, ResponseHead, ServerExchange } from '../http/message.ts';
import { Http1ClientConnection } from './client.ts';
import { LastHead } from './fields.ts';
import { parseRequestHead, parseResponseHead } from './head.ts';
import { defaultHttp1Limits } from './limits.ts';
import { Http1ServerConnection } from './server.ts';

/** Two ends of one connection in memory; bytes arrive in pieces of at most `piece`. */
function pair(piece = Number.POSITIVE_INFINITY): readonly [End, End] {
  const left = new End(piece);
  const right = new End(piece);
  left.other = right;
  right.other = left;
  return [left, right];
}

class End implements ByteStream {
  other: End | undefined;
  sink: ByteSink | undefined;
  readonly piece: number;
  readonly #waiting: Buffer[] = [];
  #paused = false;
  #ended = false;
  #endTold = false;
  closed = false;

  constructor(piece: number) {
    this.piece = piece;
  }
  attach(sink: ByteSink): void {
    this.sink = sink;
    this.#flow();
  }
  write(chunk: Buffer): boolean {
    for (let at = 0; at < chunk.length; at += this.piece) {
      this.other?.arrive(chunk.subarray(at, Math.min(chunk.length, at + this.piece)));
    }
    return true;
  }
  arrive(chunk: Buffer): void {
    this.#waiting.push(chunk);
    this.#flow();
  }
  end(): void {
    queueMicrotask(() => this.other?.peerEnd());
  }
  peerEnd(): void {
    this.#ended = true;
    this.#flow();
  }
  abort(reason: Error): void {
    if (this.closed) return;
    this.closed = true;
    queueMicrotask(() => {
      this.sink?.close(reason);
      this.other?.abort(reason);
    });
  }
  pause(): void {
    this.#paused = true;
  }
  resume(): void {
    this.#paused = false;
    this.#flow();
  }
  #flow(): void {
    while (!this.#paused && this.sink !== undefined && !this.closed) {
      const chunk = this.#waiting.shift();
      if (chunk === undefined) break;
      this.sink.data(chunk);
    }
    if (this.#ended && !this.#endTold && this.#waiting.length === 0 && !this.#paused) {
      this.#endTold = true;
      this.sink?.end();
    }
  }
}

interface Raw {
  readonly stream: End;
  text(): string;
  closed(): boolean;
}

function raw(stream: End): Raw {
  let text = '';
  let closed = false;
  stream.attach({
    data: (chunk) => (text += chunk.toString('latin1')),
    end: () => (closed = true),
    drain: () => undefined,
    close: () => (closed = true),
  });
  return { stream, text: () => text, closed: () => closed };
}

function serve(
  piece: number,
  answer: (exchange: ServerExchange) => void,
  limits = defaultHttp1Limits,
): Raw & { readonly malformed: HttpError[] } {
  const [client, server] = pair(piece);
  const malformed: HttpError[] = [];
  new Http1ServerConnection(server, {
    limits,
    onRequest: answer,
    onMalformed: (error) => malformed.push(error),
    onClosed: () => undefined,
  });
  return { ...raw(client), malformed };
}

async function settled(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 5));
}

/** Answers with the method, the path and the body that came. */
function echo(exchange: ServerExchange): void {
  const chunks: Buffer[] = [];
  exchange.attach(
    { drain: () => undefined, gone: () => undefined },
    {
      data: (chunk) => chunks.push(chunk),
      end: () => {
        const { method, path, authority } = exchange.request;
        const body = Buffer.from(
          `${method} ${authority}${path} ${Buffer.concat(chunks).toString()}`,
        );
        exchange.respond({ status: 200, headers: new HeaderList() }, true);
        exchange.write(body);
        exchange.end();
      },
    },
  );
}

describe('server', () => {
  test.each([1, 2, 7, 1000])('requests in pieces of %d bytes', async (piece) => {
    const client = serve(piece, echo);
    client.stream.write(
      Buffer.from(
        'POST /a HTTP/1.1\r\nHost: X\r\nContent-Length: 3\r\n\r\nabc' +
          'POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1;x=y\r\nf\r\n0\r\nA: b\r\n\r\n' +
          'GET /c?d=e HTTP/1.1\r\nhost: x:80\r\n\r\n',
      ),
    );
    await settled();
    expect(client.malformed).toEqual([]);
    expect(client.text().replace(/\r\n/g, '|')).toBe(
      ['c|POST x/a abc|', 'c|POST x/b def|', 'f|GET x:80/c?d=e |']
        .map((chunk) => `HTTP/1.1 200 OK|transfer-encoding: chunked||${chunk}0||`)
        .join(''),
    );
  });

  test('a body that comes before anybody listens waits', async () => {
    const client = serve(4, (exchange) => setTimeout(() => echo(exchange), 2));
    client.stream.write(
      Buffer.from('PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n0123456789'),
    );
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(client.text()).toContain('PUT x/ 0123456789');
  });

  test('100-continue is said when the body is wanted, and not to who is refused', async () => {
    const asked = serve(1000, echo);
    asked.stream.write(
      Buffer.from('PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n'),
    );
    await settled();
    expect(asked.text()).toBe('HTTP/1.1 100 Continue\r\n\r\n');
    const refused = serve(1000, (exchange) =>
      exchange.respond({ status: 403, headers: new HeaderList() }, false),
    );
    refused.stream.write(
      Buffer.from('PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n'),
    );
    await settled();
    expect(refused.text()).toBe(
      'HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n',
    );
    expect(refused.closed()).toBe(true);
  });

  test('a slow head is answered 408', async () => {
    const limits = { ...defaultHttp1Limits, headTimeoutMs: 40 };
    const client = serve(1000, echo, limits);
    client.stream.write(Buffer.from('GET / HTTP/1.1\r\nhos'));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(client.text()).toMatch(/^HTTP\/1.1 408 /);
  });
});

const base = 'GET / HTTP/1.1\r\nhost: x\r\n';
describe('what could be read in two ways is refused', () => {
  test.each([
    ['two hosts', `${base}host: y\r\n\r\n`, 400],
    ['no host', 'GET / HTTP/1.1\r\n\r\n', 400],
    ['length and coding', `${base}content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n`, 400],
    ['two lengths', `${base}content-length: 1\r\ncontent-length: 1\r\n\r\n`, 400],
    ['a length with a sign', `${base}content-length: +1\r\n\r\n`, 400],
    ['a list of lengths', `${base}content-length: 1,1\r\n\r\n`, 400],
    ['a hexadecimal length', `${base}content-length: 0x1\r\n\r\n`, 400],
    ['an endless length', `${base}content-length: 18446744073709551617\r\n\r\n`, 400],
    ['coding identity', `${base}transfer-encoding: identity\r\n\r\n`, 501],
    ['two codings', `${base}transfer-encoding: gzip, chunked\r\n\r\n`, 501],
    [
      'the coding twice',
      `${base}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n`,
      400,
    ],
    ['a vertical tab', `${base}transfer-encoding: \x0bchunked\r\n\r\n`, 400],
    ['a space before the colon', `${base}content-length : 1\r\n\r\n`, 400],
    ['a folded line', `${base}a: b\r\n c\r\n\r\n`, 400],
    ['a bare line feed', 'GET / HTTP/1.1\nhost: x\n\n', 400],
    ['a return inside a value', `${base}a: b\rc\r\n\r\n`, 400],
    ['a zero byte', `${base}a: b\0c\r\n\r\n`, 400],
    ['a fragment of a line', 'GET /\r\nhost: x\r\n\r\n', 400],
    ['a tab in the request line', 'GET\t/ HTTP/1.1\r\nhost: x\r\n\r\n', 400],
    ['HTTP/2.0', 'GET / HTTP/2.0\r\nhost: x\r\n\r\n', 400],
    ['an empty line first', `\r\n${base}\r\n`, 400],
    ['another place in the target', 'GET http://y/ HTTP/1.1\r\nhost: x\r\n\r\n', 400],
    ['CONNECT', 'CONNECT x:1 HTTP/1.1\r\nhost: x:1\r\n\r\n', 405],
    ['nominated framing', `${base}connection: content-length\r\n\r\n`, 400],
    ['nominated identity', `${base}connection: x-forwarded-client-cert\r\n\r\n`, 400],
    ['an underscore twin', `${base}x_forwarded_client_cert: a\r\n\r\n`, 400],
    ['an unknown expectation', `${base}expect: 200-ok\r\n\r\n`, 417],
    ['coding in HTTP/1.0', 'POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n', 400],
    ['too many fields', `${base}${'a: b\r\n'.repeat(120)}\r\n`, 431],
    ['too big a head', `${base}a: ${'b'.repeat(70_000)}\r\n\r\n`, 431],
    [
      'a chunk size with a space',
      `${base}transfer-encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n`,
      400,
    ],
    [
      'a chunk longer than its size',
      `${base}transfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n`,
      400,
    ],
    [
      'a bare line feed after a size',
      `${base}transfer-encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n`,
      400,
    ],
    [
      'a length in the trailers',
      `${base}transfer-encoding: chunked\r\n\r\n0\r\ncontent-length: 1\r\n\r\n`,
      400,
    ],
    [
      'a flood of extensions',
      `${base}transfer-encoding: chunked\r\n\r\n${`1;${'e'.repeat(200)}\r\na\r\n`.repeat(100)}0\r\n\r\n`,
      400,
    ],
  ])('%s', async (_name, text, status) => {
    const seen: string[] = [];
    const client = serve(1000, (exchange) => {
      seen.push(exchange.request.path);
      exchange.attach(
        { drain: () => undefined, gone: () => undefined },
        { data: () => undefined, end: () => undefined },
      );
    });
    client.stream.write(Buffer.from(text, 'latin1'));
    await settled();
    expect(client.malformed.map((error) => error.status)).toEqual([status]);
    expect(client.text()).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(client.closed()).toBe(true);
  });
});

describe('client', () => {
  async function ask(answer: string, method = 'GET', end = false): Promise<string[]> {
    const [near, far] = pair();
    const told: string[] = [];
    const server = raw(far);
    const connection = new Http1ClientConnection(near, {
      limits: defaultHttp1Limits,
      idleTimeoutMs: 1000,
      maxRequests: 100,
      onFree: () => told.push('free'),
      onClosed: () => told.push('closed'),
    });
    connection.request(
      {
        method,
        scheme: 'http',
        authority: 'x',
        path: '/',
        headers: new HeaderList(),
        protocol: 'HTTP/1.1',
        upgrade: undefined,
        expectContinue: false,
      },
      false,
      {
        informational: ({ status }: ResponseHead) => told.push(`informational ${status}`),
        response: ({ status }, hasBody) => told.push(`response ${status} ${hasBody}`),
        data: (chunk) => told.push(chunk.toString()),
        end: (trailers) =>
          told.push(`end${trailers === undefined ? '' : ` ${[...trailers].join()}`}`),
        upgraded: () => told.push('upgraded'),
        drain: () => undefined,
        failed: ({ code }) => told.push(`failed ${code}`),
      },
    );
    expect(server.text()).toBe(`${method} / HTTP/1.1\r\nhost: x\r\n\r\n`);
    far.write(Buffer.from(answer, 'latin1'));
    if (end) far.end();
    await settled();
    return told;
  }

  test.each([
    [
      'with a length',
      'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab',
      ['response 200 true', 'ab', 'free', 'end'].sort(),
    ],
    ['without a body', 'HTTP/1.1 204 No Content\r\n\r\n', ['response 204 false', 'free'].sort()],
    [
      'in chunks, with trailers',
      'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nt: u\r\n\r\n',
      ['response 200 true', 'a', 'end t,u', 'free'].sort(),
    ],
    [
      'after early hints',
      'HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n',
      ['informational 103', 'response 200 false', 'free'].sort(),
    ],
  ])('an answer %s', async (_name, answer, told) => {
    expect((await ask(answer)).sort()).toEqual(told);
  });

  test('an answer that ends with its connection is not used again', async () => {
    const told = await ask('HTTP/1.1 200 OK\r\n\r\nabc', 'GET', true);
    expect(told).toEqual(['response 200 true', 'abc', 'end']);
  });

  test.each([
    ['no HTTP', 'nonsense\r\n\r\n', 'http1/malformed'],
    [
      'two framings',
      'HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n',
      'http1/malformed',
    ],
    [
      'an upgrade nobody wants',
      'HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n',
      'http1/bad-upgrade',
    ],
    ['endless hints', 'HTTP/1.1 103 Hints\r\n\r\n'.repeat(30), 'http1/too-many-informational'],
  ])('nonsense: %s', async (_name, answer, code) => {
    expect(await ask(answer)).toContain(`failed ${code}`);
  });

  test("bytes behind an answer are nobody else's answer", async () => {
    const told = await ask(
      'HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\naHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison',
    );
    expect(told).toEqual(['response 200 true', 'a', 'end', 'closed']);
  });

  test('an answer cut off in its body fails', async () => {
    const told = await ask('HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc', 'GET', true);
    expect(told.at(-1)).toMatch(/^(failed|closed)/);
    expect(told.some((what) => what.startsWith('failed http1/cut-off'))).toBe(true);
    expect(told).not.toContain('end');
  });
});

test('heads: names are lower case, hop-by-hop fields are gone', () => {
  const parsed = parseRequestHead(
    'GET http://Shop/a HTTP/1.1\r\nHost: shop\r\nConnection: close, X-Own\r\nX-Own: 1\r\nTE: trailers, gzip\r\nCookie: a\r\nCookie: b',
    100,
  );
  if (!parsed.ok) throw parsed.error;
  expect([...parsed.value.head.headers]).toEqual([
    ['cookie', 'a'],
    ['cookie', 'b'],
    ['te', 'trailers'],
  ]);
  expect(parsed.value.head).toMatchObject({ authority: 'shop', path: '/a' });
  expect(parsed.value.keepAlive).toBe(false);
  const answer = parseResponseHead('HTTP/1.1 200\r\nconnection: keep-alive', 'HEAD', 100);
  expect(answer.ok && answer.value.framing.kind).toBe('none');
});

test('a head is read the same whatever heads its connection had before', () => {
  let seed = 3;
  const random = (below: number): number => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % below;
  };
  const oneOf = (list: readonly string[]): string => list[random(list.length)] ?? '';
  const line = (): string =>
    oneOf([
      'host: a',
      'Host: a',
      'host: a:80',
      'x: 1',
      'x: 12',
      'x:1',
      'X-Long: ' + 'v'.repeat(random(3) * 40),
      'connection: keep-alive',
      'connection: close, x',
      'te: trailers',
      'content-length: 5',
      'content-length: 55',
      'transfer-encoding: chunked',
      'x : 1',
      'bad',
      'y: \u0001',
      '',
    ]);
  const head = (): string =>
    [
      oneOf(['GET / HTTP/1.1', 'GET / HTTP/1.0', 'GET /x HTTP/1.1', 'POST / HTTP/1.1', 'GET /']),
      ...Array.from({ length: random(5) }, line),
    ].join('\r\n');
  const plain = (parsed: ReturnType<typeof parseRequestHead>): unknown =>
    parsed.ok
      ? { ...parsed.value, head: { ...parsed.value.head, headers: [...parsed.value.head.headers] } }
      : [parsed.error.code, parsed.error.message, parsed.error.status];
  let good = 0;
  for (let connection = 0; connection < 300; connection += 1) {
    const lines = new LastHead('request');
    let text = head();
    for (let request = 0; request < 12; request += 1) {
      const again = parseRequestHead(text, 100, lines);
      expect(plain(again)).toEqual(plain(parseRequestHead(text, 100)));
      if (again.ok) {
        good += 1;
        // What is done to a head on its way must not show in the next one.
        again.value.head.headers.set('x', 'changed');
        again.value.head.headers.append('added', '1');
      }
      text = random(3) === 0 ? text : head();
    }
  }
  expect(good).toBeGreaterThan(200);
});

test('the fields of an answer that come again are framed anew by its status, and are never those of its forerunner', () => {
  const last = new LastHead('response');
  const parse = (line: string, method: string): unknown => {
    const parsed = parseResponseHead(`${line}\r\ncontent-length: 5\r\nx: 1`, method, 100, last);
    if (!parsed.ok) return parsed.error.message;
    const { head, framing, keepAlive } = parsed.value;
    const fields = [...head.headers];
    head.headers.delete('x');
    return { framing, keepAlive, fields };
  };
  const fields = [
    ['content-length', '5'],
    ['x', '1'],
  ];
  const five = { kind: 'length', bytes: 5 };
  const none = { kind: 'none' };
  expect(parse('HTTP/1.1 200 OK', 'GET')).toEqual({ framing: five, keepAlive: true, fields });
  expect(parse('HTTP/1.1 304 Not Modified', 'GET')).toEqual({
    framing: none,
    keepAlive: true,
    fields,
  });
  expect(parse('HTTP/1.1 200 OK', 'HEAD')).toEqual({ framing: none, keepAlive: true, fields });
  expect(parse('HTTP/1.0 200 OK', 'GET')).toEqual({ framing: five, keepAlive: false, fields });
});

test('a head with more fields than are allowed now is refused although it was allowed before', () => {
  const last = new LastHead('request');
  const text = 'GET / HTTP/1.1\r\nhost: a\r\nx: 1';
  expect(parseRequestHead(text, 2, last).ok).toBe(true);
  expect(parseRequestHead(text, 1, last)).toMatchObject({ ok: false, error: { status: 431 } });
});
