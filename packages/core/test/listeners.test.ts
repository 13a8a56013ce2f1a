import { once } from 'node:events';
import type { AddressInfo, Server } from 'node:net';
import { connect } from 'node:net';
import { parseIp } from '@ambit/api';
import { adoptServer, leaveNewConnections, listenSocket } from '@ambit/core';
import { afterEach, expect, test } from '@jest/globals';

/** Two listeners on one port of loopback, as an old and a new proxy have in a pod. */
const open: Server[] = [];
afterEach(() => {
  for (const server of open.splice(0)) server.close();
});

interface Counted {
  readonly server: Server;
  readonly port: number;
  taken: number;
}

async function listening(port: number, reusePort = true): Promise<Counted> {
  const any = parseIp('::');
  if (!any.ok) throw new TypeError(any.error.message);
  const fd = listenSocket({ ip: any.value, port, reusePort });
  const server = adoptServer(fd, {}, (socket) => {
    counted.taken += 1;
    socket.on('error', () => undefined);
    socket.end('x');
  });
  open.push(server);
  await once(server, 'listening');
  const counted: Counted = { server, port: (server.address() as AddressInfo).port, taken: 0 };
  return counted;
}

/** Connections, each after the last; resolves to how many were answered. */
async function ask(port: number, times: number): Promise<number> {
  let answered = 0;
  for (let i = 0; i < times; i += 1) {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.on('error', () => undefined);
    socket.on('data', () => (answered += 1));
    await once(socket, 'close');
  }
  return answered;
}

test('two processes of a user listen on one port only where both say so', async () => {
  const first = await listening(0);
  await expect(listening(first.port, false)).rejects.toThrow('EADDRINUSE');
  await listening(first.port);
});

test('a listener that gives way leaves new connections to the one that came later', async () => {
  const first = await listening(0);
  const second = await listening(first.port);
  leaveNewConnections(first.server);
  expect(await ask(first.port, 200)).toBe(200);
  expect([first.taken, second.taken]).toEqual([0, 200]);
});

test('a listener that gives way to nobody goes on', async () => {
  const only = await listening(0);
  leaveNewConnections(only.server);
  expect(await ask(only.port, 20)).toBe(20);
  expect(only.taken).toBe(20);
});

test('no connection is lost from one generation to the next, and the next', async () => {
  let current = await listening(0);
  const { port } = current;
  const load = Promise.all([ask(port, 400), ask(port, 400)]);
  for (let generation = 0; generation < 3; generation += 1) {
    const next = await listening(port);
    leaveNewConnections(current.server);
    await new Promise((resolve) => setTimeout(resolve, 30));
    current.server.close();
    current = next;
  }
  expect(await load).toEqual([400, 400]);
});
