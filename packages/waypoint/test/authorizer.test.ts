import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { Http2Server, ServerHttp2Stream } from 'node:http2';
import { createServer as createHttp2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';
import type { Upsert } from '@ambit/api';
import { aMesh } from '@ambit/testkit';
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopKey, shopService, startBackend, startWorld } from './world.ts';

let world: WaypointWorld;
let backend: Backend;
let http: ReturnType<typeof createServer>;
let grpc: Http2Server;
let asked: { method: string; url: string; headers: IncomingMessage['headers']; body: string }[] =
  [];
let answer: (request: IncomingMessage, response: ServerResponse) => void;
let check: (message: Buffer) => Buffer | undefined;

beforeAll(async () => {
  http = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { method = '', url = '', headers } = request;
      asked.push({ method, url, headers, body: Buffer.concat(chunks).toString() });
      answer(request, response);
    });
  });
  grpc = createHttp2Server();
  grpc.on('stream', (stream: ServerHttp2Stream, headers) => {
    const chunks: Buffer[] = [];
    stream.on('error', () => undefined);
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => {
      expect(headers[':path']).toBe('/envoy.service.auth.v3.Authorization/Check');
      const message = check(Buffer.concat(chunks).subarray(5));
      if (message === undefined) return;
      stream.respond({ ':status': 200 }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      const head = Buffer.alloc(5);
      head.writeUInt32BE(message.length, 1);
      stream.end(Buffer.concat([head, message]));
    });
  });
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  await new Promise<void>((resolve) => grpc.listen(0, '127.0.0.1', resolve));
  backend = await startBackend('v1');
  world = await startWorld({ workloads: [endpointOf(backend)], services: [shopService()] });
});
afterAll(async () => {
  await world.close();
  await backend.close();
  http.closeAllConnections();
  http.close();
  grpc.close();
});
beforeEach(() => {
  asked = [];
  world.access.length = 0;
  backend.requests.length = 0;
  answer = (_request, response) => response.end();
});

let version = 0;
function mesh(providers: readonly Record<string, unknown>[]): Upsert {
  version += 1;
  const resource = aMesh({ roots: [world.ca.rootPem], providers });
  return { type: 'mesh', name: 'default', version: `m${version}` as never, resource };
}

function portOf(server: { address(): unknown }): number {
  return (server.address() as AddressInfo).port;
}

function overHttp(fields: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    kind: 'ext-authz-http',
    name: 'gate',
    address: { host: 'localhost', port: portOf(http) },
    timeoutMs: 500,
    failOpen: false,
    statusOnError: 403,
    pathPrefix: '/check',
    includeRequestHeaders: ['x-ask-*'],
    additionalHeaders: [['x-from', 'waypoint']],
    headersToUpstreamOnAllow: ['x-user', 'authorization'],
    headersToDownstreamOnDeny: [],
    headersToDownstreamOnAllow: ['set-cookie'],
    ...fields,
  };
}

function overGrpc(fields: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    kind: 'ext-authz-grpc',
    name: 'gate',
    address: { host: 'localhost', port: portOf(grpc) },
    timeoutMs: 500,
    failOpen: false,
    statusOnError: 503,
    ...fields,
  };
}

const onService = { kind: 'targeted', targets: [{ kind: 'service', service: shopKey }] };

async function custom(
  providers: readonly Record<string, unknown>[],
  policies: readonly Record<string, unknown>[] = [{}],
): Promise<void> {
  const whole = policies.map((fields, index) => ({
    name: `ask-${index}`,
    scope: onService,
    action: 'CUSTOM',
    provider: 'gate',
    rules: [{ from: [], to: [[path('/guarded')]], when: [] }],
    ...fields,
  }));
  await world.tell({ more: [mesh(providers)], policies: whole });
}

function path(value: string): Record<string, unknown> {
  const values = [{ kind: 'prefix', value }];
  return { kind: 'request', attribute: { kind: 'path' }, values, notValues: [] };
}

async function logged(what: string): Promise<void> {
  for (let tries = 0; !world.access.some((line) => line.includes(what)); tries += 1) {
    if (tries > 200) throw new Error(`${what} is not in ${world.access.join('\n')}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe('an external authorizer over HTTP', () => {
  test('is asked about what matches only, and what it lets pass has what it says of it', async () => {
    await custom([overHttp()]);
    answer = (_request, response) =>
      response
        .writeHead(200, {
          'x-user': 'ann',
          'x-other': 'no',
          'set-cookie': 's=1',
          'content-length': 0,
        })
        .end();
    expect((await world.ask({ path: '/free' })).status).toBe(200);
    expect(asked).toEqual([]);
    const passed = await world.ask({
      path: '/guarded/a?b=c',
      method: 'PUT',
      body: 'secret',
      headers: { 'x-ask-1': 'one', 'x-hidden': 'two', authorization: 'Bearer t', 'x-user': 'root' },
    });
    expect(passed.status).toBe(200);
    expect(passed.headers['set-cookie']).toEqual(['s=1']);
    expect(passed.body).toBe('v1 PUT /guarded/a?b=c secret');
    const [question] = asked;
    expect(question).toMatchObject({ method: 'PUT', url: '/check/guarded/a?b=c', body: '' });
    expect(question?.headers).toMatchObject({
      host: 'shop.test',
      'x-ask-1': 'one',
      'x-from': 'waypoint',
      authorization: 'Bearer t',
    });
    expect(question?.headers['x-hidden']).toBeUndefined();
    const got = backend.requests.at(-1)?.headers;
    expect(got).toMatchObject({ 'x-user': 'ann', authorization: 'Bearer t' });
    expect(got?.['x-other']).toBeUndefined();
  });

  test('what only it may say is taken from clients, asked about or not', async () => {
    await custom([overHttp()]);
    for (const where of ['/free', '/guarded']) {
      await world.ask({ path: where, headers: { 'x-user': 'root', authorization: 'mine' } });
      expect(backend.requests.at(-1)?.headers['x-user']).toBeUndefined();
      expect(backend.requests.at(-1)?.headers.authorization).toBe('mine');
    }
  });

  test('refuses with its own status, fields and text; the log names policy and provider', async () => {
    await custom([overHttp()]);
    answer = (_request, response) =>
      response.writeHead(401, { 'www-authenticate': 'Basic', 'x-why': 'no' }).end('who are you?');
    const refused = await world.ask({
      path: '/guarded',
      method: 'POST',
      body: 'x'.repeat(200_000),
    });
    expect(refused.status).toBe(401);
    expect(refused.body).toBe('who are you?');
    expect(refused.headers).toMatchObject({ 'www-authenticate': 'Basic', 'x-why': 'no' });
    expect(backend.requests).toEqual([]);
    await logged('401 UAEX ext_authz_denied[policy=test/ask-0,provider=gate]');
  });

  test('comes before DENY and ALLOW', async () => {
    await custom([overHttp()], [{}, { name: 'deny', action: 'DENY' }]);
    expect((await world.ask({ path: '/guarded' })).status).toBe(403);
    expect(asked).toHaveLength(1);
    await world.controller.push([], [{ type: 'policy', name: 'test/deny' }]);
  });

  test('is given as much of the body as was asked for, and the endpoint gets all of it', async () => {
    const body = { maxBytes: 10, allowPartial: true, packAsBytes: false };
    await custom([overHttp({ body })]);
    const long = 'y'.repeat(300_000);
    expect((await world.ask({ path: '/guarded', method: 'POST', body: long })).body).toBe(
      `v1 POST /guarded ${long}`,
    );
    expect(asked[0]).toMatchObject({ body: 'yyyyyyyyyy' });
    expect(asked[0]?.headers['x-envoy-auth-partial-body']).toBe('true');
    expect((await world.ask({ path: '/guarded', method: 'POST', body: 'short' })).body).toBe(
      'v1 POST /guarded short',
    );
    expect(asked[1]).toMatchObject({ body: 'short' });
    expect((await world.ask({ path: '/guarded' })).status).toBe(200);
    await custom([overHttp({ body: { ...body, allowPartial: false } })]);
    expect((await world.ask({ path: '/guarded', method: 'POST', body: long })).status).toBe(413);
    expect(asked).toHaveLength(3);
  });

  test.each([
    ['answers 500', (response: ServerResponse) => response.writeHead(500).end()],
    ['says nothing', () => undefined],
    ['speaks nonsense', (response: ServerResponse) => response.socket?.end('nonsense\r\n\r\n')],
    ['leaves', (response: ServerResponse) => response.socket?.destroy()],
    ['says too much', (response: ServerResponse) => response.end('z'.repeat(100_000))],
  ])('one that %s refuses, unless its owner wants it open', async (_what, act) => {
    answer = (_request, response) => act(response);
    await custom([overHttp({ statusOnError: 503 })]);
    expect((await world.ask({ path: '/guarded' })).status).toBe(503);
    await logged('UAEX ext_authz_error[policy=test/ask-0,provider=gate]');
    await custom([overHttp({ failOpen: true })]);
    expect((await world.ask({ path: '/guarded' })).status).toBe(200);
    expect(await world.metrics.render()).toMatch(
      /ambit_external_authorization_total\{provider="gate",outcome="failure-allowed"\} [1-9]/,
    );
  });

  test('a provider that nobody defines, one of another kind, and two of them refuse', async () => {
    await custom([]);
    expect((await world.ask({ path: '/guarded' })).status).toBe(403);
    expect((await world.ask({ path: '/free' })).status).toBe(200);
    await custom([{ kind: 'prometheus', name: 'gate' }]);
    expect((await world.ask({ path: '/guarded' })).status).toBe(403);
    await custom([overHttp(), overHttp({ name: 'other' })], [{}, { provider: 'other' }]);
    expect((await world.ask({ path: '/guarded' })).status).toBe(403);
    expect(asked).toEqual([]);
    await world.controller.push([], [{ type: 'policy', name: 'test/ask-1' }]);
  });

  test('in dry run nobody is asked and nothing is refused', async () => {
    await custom([overHttp()], [{ dryRun: true }]);
    expect((await world.ask({ path: '/guarded' })).status).toBe(200);
    expect(asked).toEqual([]);
    expect(await world.metrics.render()).toMatch(/ambit_dry_run_total\{policy="test\/ask-0"/);
  });

  test('a client that leaves takes its question along', async () => {
    await custom([overHttp({ timeoutMs: 60_000 })]);
    const cut = new Promise<void>((resolve) => {
      answer = (request) => {
        request.socket.once('close', () => resolve());
        void world.session('leaving').then(({ session }) => session.destroy());
      };
    });
    await expect(world.ask({ path: '/guarded', as: 'leaving' })).rejects.toThrow();
    await cut;
    await logged(' 0 DC downstream_remote_disconnect');
    expect(backend.requests).toEqual([]);
  });
});

function field(number: number, value: string | Buffer | BinaryWriter): BinaryWriter {
  const bytes = value instanceof BinaryWriter ? value.finish() : Buffer.from(value);
  return new BinaryWriter().tag(number, WireType.LengthDelimited).bytes(bytes);
}

function joined(...parts: readonly BinaryWriter[]): Buffer {
  return Buffer.concat(parts.map((part) => part.finish()));
}

function option(name: string, value: string, append?: boolean): Buffer {
  const header = joined(field(1, name), field(2, value));
  const flag = new BinaryWriter().tag(1, WireType.Varint).bool(append === true);
  return append === undefined ? joined(field(1, header)) : joined(field(1, header), field(2, flag));
}

const good = field(1, Buffer.alloc(0));

/** Every text in a message, however deep. */
function textsIn(bytes: Uint8Array): string[] {
  const found = [Buffer.from(bytes).toString()];
  try {
    const reader = new BinaryReader(bytes);
    while (reader.pos < reader.len) {
      const [number, type] = reader.tag();
      if (type === WireType.LengthDelimited) found.push(...textsIn(reader.bytes()));
      else reader.skip(type, number);
    }
  } catch {
    // It was a text.
  }
  return found;
}

describe('an external authorizer over gRPC', () => {
  test('is told who asks for what, and may change what goes on', async () => {
    await custom([overGrpc({ body: { maxBytes: 100, allowPartial: true, packAsBytes: false } })]);
    let texts: string[] = [];
    check = (message) => {
      texts = textsIn(message);
      const ok = joined(
        field(2, option('x-user', 'ann')),
        field(2, option('x-role', 'b', true)),
        field(2, option('content-length', '3')),
        field(2, option('x-forwarded-client-cert', 'By=me')),
        field(2, option('x-broken', 'a\r\nb: c')),
        field(5, 'x-drop'),
        field(6, option('x-seen', 'yes')),
      );
      return joined(good, field(3, ok));
    };
    const passed = await world.ask({
      path: '/guarded?q=1',
      method: 'POST',
      body: 'words',
      headers: { 'x-role': 'a', 'x-drop': 'me', 'x-user': 'root' },
    });
    expect(passed.body).toBe('v1 POST /guarded?q=1 words');
    expect(passed.headers['x-seen']).toBe('yes');
    expect(texts).toEqual(
      expect.arrayContaining([
        'spiffe://cluster.local/ns/test/sa/client',
        'spiffe://cluster.local/ns/test/sa/waypoint',
        'POST',
        '/guarded?q=1',
        'shop.test',
        'HTTP/1.1',
        'words',
        'x-drop',
      ]),
    );
    const got = backend.requests.at(-1)?.headers;
    expect(got).toMatchObject({ 'x-user': 'ann', 'x-role': 'a, b' });
    expect(got?.['x-drop']).toBeUndefined();
    expect(got?.['x-broken']).toBeUndefined();
    expect(got?.['x-forwarded-client-cert']).not.toBe('By=me');
  });

  test('refuses with its own status, fields and text', async () => {
    await custom([overGrpc()]);
    const code = joined(new BinaryWriter().tag(1, WireType.Varint).int32(7));
    const status = new BinaryWriter().tag(1, WireType.Varint).int32(429);
    const denied = joined(field(1, status), field(2, option('x-why', 'no')), field(3, 'not today'));
    check = () => joined(field(1, code), field(2, denied));
    const refused = await world.ask({ path: '/guarded' });
    expect([refused.status, refused.body, refused.headers['x-why']]).toEqual([
      429,
      'not today',
      'no',
    ]);
    check = () => joined(field(1, code));
    expect((await world.ask({ path: '/guarded' })).status).toBe(403);
  });

  test.each([
    ['nothing at all', () => Buffer.alloc(0)],
    ['nonsense', () => Buffer.from([0xff, 0xff, 0xff])],
    ['a message cut short', () => Buffer.from([0x0a, 0x7f, 1])],
    ['silence', () => undefined],
  ])('%s is no leave to pass', async (_what, say) => {
    await custom([overGrpc()]);
    check = say;
    expect((await world.ask({ path: '/guarded' })).status).toBe(503);
    expect(backend.requests).toEqual([]);
  });
});
