import type { AddressInfo, Socket } from 'node:net';
import { createServer } from 'node:net';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { Backend, WaypointWorld } from './world.ts';
import { endpointOf, shopService, startWorld } from './world.ts';

/** Endpoints that answer what nobody asked (security.md T13): whatever they say, it reaches no other request. */
let world: WaypointWorld;
let behave: (socket: Socket, own: string) => void = () => undefined;
const sockets = new Set<Socket>();
const server = createServer((socket) => {
  sockets.add(socket);
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => {
    const path = /^[A-Z]+ (\S+) /.exec(chunk.toString('latin1'))?.[1];
    if (path !== undefined) behave(socket, answer(path));
  });
});

function answer(body: string): string {
  return `HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
}

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.3.1', resolve));
  const { port } = server.address() as AddressInfo;
  world = await startWorld({
    services: [shopService()],
    workloads: [endpointOf({ name: 'hostile', ip: '127.0.3.1', port } as Backend)],
  });
}, 30_000);

afterAll(async () => {
  await world.close();
  for (const socket of sockets) socket.destroy();
  await new Promise<void>((resolve) => server.close(() => resolve()));
});

const forged = answer('forged');

test.each<[string, (socket: Socket, own: string) => void]>([
  ['a second answer behind the first', (socket, own) => socket.write(own + forged)],
  [
    'an answer on the idle connection',
    (socket, own) => {
      socket.write(own);
      setImmediate(() => socket.write(forged));
    },
  ],
  ['bytes behind the length', (socket, own) => socket.write(`${own}more`)],
  ['endless 1xx', (socket) => socket.write('HTTP/1.1 102 Processing\r\n\r\n'.repeat(100_000))],
  [
    '101 that nobody asked for',
    (socket) =>
      socket.write('HTTP/1.1 101 Yes\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n' + forged),
  ],
  [
    'two lengths',
    (socket) =>
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 6\r\ncontent-length: 7\r\n\r\nforged'),
  ],
  [
    'a length and chunks',
    (socket) =>
      socket.write(
        'HTTP/1.1 200 OK\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n6\r\nforged\r\n0\r\n\r\n',
      ),
  ],
  [
    'a head without end',
    (socket) => socket.write(`HTTP/1.1 200 OK\r\n${'a: b\r\n'.repeat(30_000)}`),
  ],
  [
    'a line feed in a field',
    (socket) =>
      socket.write('HTTP/1.1 200 OK\r\nset-cookie: a\nb: c\r\ncontent-length: 6\r\n\r\nforged'),
  ],
  ['no HTTP at all', (socket) => socket.write('forged\r\n\r\n')],
])('%s', async (_name, how) => {
  behave = how;
  for (let round = 0; round < 15; round += 1) {
    const path = `/${round}`;
    const { status, body } = await world.ask({ path, as: `client-${round % 2}` });
    if (status === 200) expect(body).toBe(path);
    else expect([502, 503]).toContain(status);
    expect(body).not.toContain('forged');
  }
});
