import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { frame, literal, preface } from './frames.ts';
import type { Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopService, startBackend, startWorld } from './world.ts';

/** From HTTP/2 to an endpoint of HTTP/1.1 (security.md T12): what would be something else there is refused. */
type Field = readonly [name: string, value: string];
interface Case {
  readonly name: string;
  readonly fields: readonly Field[];
  readonly data?: string;
  readonly trailers?: readonly Field[];
}

let world: WaypointWorld;
let backend: Backend;
/** Requests that came whole, with all of their fields. */
const whole: string[] = [];

/** Without what is made anew for each. */
function asRead({ method = '', url = '', rawHeaders, rawTrailers }: IncomingMessage): string {
  const fields = [...rawHeaders, '|', ...rawTrailers].map((text) =>
    /^(?:[0-9a-f]{8}-[0-9a-f-]{27}|00-[0-9a-f]{32}-.*|[0-9a-f]{16,32})$/.test(text) ? '*' : text,
  );
  return [method, url, ...fields].join(' ');
}

beforeAll(async () => {
  backend = await startBackend('shop', (request, response) => {
    request.resume();
    request.on('error', () => undefined);
    request.on('end', () => {
      if (request.complete) whole.push(asRead(request));
      response.end('fine');
    });
  });
  world = await startWorld({
    services: [shopService({ ports: [{ name: 'http', port: 80, appProtocol: '' }] })],
    workloads: [endpointOf(backend)],
  });
}, 30_000);

afterAll(async () => {
  await world.close();
  await backend.close();
});

const pseudo: readonly Field[] = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/bad'],
  [':authority', 'shop.test'],
];

function instead(name: string, value: string): readonly Field[] {
  return pseudo.map((field) => (field[0] === name ? [name, value] : field));
}

const show = (text: string): string => JSON.stringify(text);
const smuggled = '\r\nhost: evil\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: shop.test';
/** Where a character stands that has no place. */
const around = (char: string): string[] => [`${char}ab`, `a${char}b`, `ab${char}`];

const controls = ['\r', '\n', '\r\n', '\0', '\x01', '\x0b', '\x1f', '\x7f'];
type Add = (name: string, fields: readonly Field[], more?: Partial<Case>) => void;

function cases(): Case[] {
  const all: Case[] = [];
  const add: Add = (name, fields, more = {}) => all.push({ name, fields, ...more });
  fieldCases(add);
  pseudoCases(add);
  placeCases(add);
  bodyCases(add);
  return all;
}

function fieldCases(add: Add): void {
  const field = (name: string, value: string): void =>
    add(`field ${show(name)}: ${show(value)}`, [...pseudo, [name, value]]);
  for (const char of [...controls, ' ', '\t', ':', '"', '(', '\x80', '\xff']) {
    for (const name of around(char)) field(name, 'v');
  }
  for (const char of controls) for (const value of around(char)) field('x-a', value);
  field('x-a', smuggled);
  field('x-a: v\r\ntransfer-encoding', 'chunked');
  field('cookie', 'a=b\r\nx: y');
  for (const name of ['X-A', 'Content-Length', 'hOst', 'Transfer-Encoding']) field(name, '0');
  field('', 'v');
  for (const value of [' v', 'v ', '\tv']) field('x-a', value);
  for (const value of ['chunked', 'identity', 'gzip, chunked', '', 'Chunked', 'xchunked']) {
    field('transfer-encoding', value);
  }
  for (const value of ['close', 'keep-alive', 'upgrade', 'x-forwarded-for', '']) {
    field('connection', value);
  }
  for (const name of ['keep-alive', 'proxy-connection', 'upgrade']) field(name, 'x');
  for (const name of ['x_forwarded_client_cert', 'content_length', 'transfer_encoding']) {
    field(name, '0');
  }
}

function pseudoCases(add: Add): void {
  for (const name of [':method', ':path', ':authority', ':scheme']) {
    for (const char of [...controls, ' ']) {
      for (const value of around(char)) {
        const begin = name === ':path' ? '/' : '';
        add(`${name} ${show(begin + value)}`, instead(name, begin + value));
      }
    }
    add(`${name} with a request in it`, instead(name, `/a HTTP/1.1${smuggled}`));
    add(`${name} twice`, [...pseudo, pseudo.find(([one]) => one === name) ?? ['', '']]);
    add(`${name} behind a field`, [
      ...pseudo.filter(([one]) => one !== name),
      ['x-a', 'b'],
      [name, '/x'],
    ]);
    if (name !== ':authority')
      add(
        `no ${name}`,
        pseudo.filter(([one]) => one !== name),
      );
    add(`an empty ${name}`, instead(name, ''));
  }
}

function placeCases(add: Add): void {
  for (const path of [
    'bad',
    'http://shop.test/bad',
    '?a',
    '/a#b',
    '//../..',
    '/%00',
    '/a\\b%5c..%2',
  ]) {
    if (path !== '//../..') add(`:path ${path}`, instead(':path', path));
  }
  for (const authority of [
    'a@shop.test',
    'shop.test/x',
    'shop.test:',
    'shop.test:1:2',
    'shop,test x',
  ]) {
    add(`:authority ${authority}`, instead(':authority', authority));
  }
  for (const host of ['evil.test', 'shop.test:81', 'shop.test, evil.test', '']) {
    add(`host ${show(host)} beside :authority`, [...pseudo, ['host', host]]);
  }
  add('two hosts', [...pseudo, ['host', 'shop.test'], ['host', 'shop.test']]);
  add('two hosts and no :authority', [
    ...pseudo.slice(0, 3),
    ['host', 'shop.test'],
    ['host', 'evil.test'],
  ]);
  for (const name of [':status', ':protocol', ':foo', ':']) add(name, [...pseudo, [name, '200']]);
  add('CONNECT', [
    [':method', 'CONNECT'],
    [':authority', 'shop.test'],
  ]);
}

function bodyCases(add: Add): void {
  for (const length of [
    '4',
    '6',
    '0',
    '+5',
    '0x5',
    '5,5',
    '-5',
    '5 5',
    '',
    '99999999999999999999',
  ]) {
    add(`five bytes and content-length ${show(length)}`, [...pseudo, ['content-length', length]], {
      data: 'hello',
    });
  }
  add('five bytes and no body', [...pseudo, ['content-length', '5']]);
  for (const second of ['5', '6', '0']) {
    add(
      `two lengths, 5 and ${second}`,
      [...pseudo, ['content-length', '5'], ['content-length', second]],
      { data: 'hello' },
    );
  }
  for (const trailer of [
    ['content-length', '5'],
    ['transfer-encoding', 'chunked'],
    ['host', 'evil.test'],
    ['authorization', 'x'],
    ['x-forwarded-client-cert', 'x'],
    [':path', '/x'],
    ['X-A', 'b'],
    ['x-a', 'b\r\nc: d'],
    ['x a', 'b'],
  ] as const) {
    add(`trailer ${show(trailer[0])}: ${show(trailer[1])}`, pseudo, {
      data: 'hello',
      trailers: [trailer],
    });
  }
}

const block = (fields: readonly Field[]): Buffer =>
  Buffer.concat(fields.map(([name, value]) => literal(name, value)));

function bytesOf({ fields, data, trailers }: Case): Buffer {
  const endsAtHead = data === undefined && trailers === undefined;
  const parts = [preface, frame(1, endsAtHead ? 5 : 4, 1, block(fields))];
  if (data !== undefined)
    parts.push(frame(0, trailers === undefined ? 1 : 0, 1, Buffer.from(data)));
  if (trailers !== undefined) parts.push(frame(1, 5, 1, block(trailers)));
  return Buffer.concat(parts);
}

/** Reads frames until the stream has its end. */
async function outcomeOf(stream: Duplex, bytes: Buffer): Promise<string> {
  let read = Buffer.alloc(0);
  try {
    return await new Promise((resolve) => {
      const late = setTimeout(() => resolve('nothing'), 5_000);
      const done = (what: string): void => {
        clearTimeout(late);
        resolve(what);
      };
      stream.on('error', () => done('closed'));
      stream.on('close', () => done('closed'));
      stream.on('data', (chunk: Buffer) => {
        read = Buffer.concat([read, chunk]);
        while (read.length >= 9 && read.length >= 9 + read.readUIntBE(0, 3)) {
          const payload = read.subarray(9, 9 + read.readUIntBE(0, 3));
          const [type, id] = [read[3], read.readUInt32BE(5)];
          read = read.subarray(9 + payload.length);
          if (type === 3 && id === 1) done(`reset ${payload.readUInt32BE(0)}`);
          else if (type === 7) done('goaway');
          else if (type === 1 && id === 1) {
            // The first field as the table has it: 200, 400, or one spelled out.
            const status = payload.toString('latin1', 0, 1);
            if (status === '\x8c') done('400');
            else
              done(
                status === '\x88'
                  ? '200'
                  : (/[1-5]\d\d/.exec(payload.toString('latin1'))?.[0] ?? payload.toString('hex')),
              );
          }
        }
      });
      stream.write(bytes);
    });
  } finally {
    stream.destroy();
  }
}

/** Does what it can of each, ten at a time, and tells what came of it. */
async function outcomes(of: readonly Case[]): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (let at = 0; at < of.length; at += 10) {
    await Promise.all(
      of.slice(at, at + 10).map(async (one) => {
        found.set(one.name, await outcomeOf(await world.tunnel(80, 'client'), bytesOf(one)));
      }),
    );
  }
  return found;
}

test('what cannot be said in HTTP/1.1 is refused, and no request comes of it', async () => {
  const all = cases();
  expect(all.length).toBeGreaterThan(240);
  const taken = [...(await outcomes(all))].filter(
    ([, outcome]) => !/^(?:400|405|goaway|closed|reset 1)$/.test(outcome),
  );
  expect(taken).toEqual([]);
  await world.ask();
  expect(whole.map((text) => text.slice(0, 6))).toEqual(['GET / ']);
}, 60_000);

test('the same without the fault is answered', async () => {
  whole.length = 0;
  const good: readonly Case[] = [
    { name: 'no body', fields: pseudo },
    { name: 'a body', fields: [...pseudo, ['content-length', '5']], data: 'hello' },
    { name: 'host', fields: [...pseudo, ['host', 'shop.test'], ['te', 'trailers']] },
    { name: 'trailers', fields: pseudo, data: 'hello', trailers: [['x-a', 'b']] },
  ];
  for (const one of good) {
    const outcome = await outcomeOf(await world.tunnel(80, 'client'), bytesOf(one));
    expect(`${one.name}: ${outcome}`).toBe(`${one.name}: 200`);
  }
  expect(whole.map((text) => text.slice(0, 9))).toEqual(good.map(() => 'POST /bad'));
});
