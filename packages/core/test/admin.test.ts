import { once } from 'node:events';
import { request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { connect, createServer } from 'node:net';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { AdminServers, Logger, Readiness } from '../src/index.ts';
import { createLogger, createMetrics, createReadiness, startAdmin } from '../src/index.ts';

let admin: AdminServers;
let logger: Logger;
let readiness: Readiness;
let ready: () => void;
let quits: number;

beforeEach(async () => {
  quits = 0;
  logger = createLogger({
    scope: 'test',
    level: 'info',
    format: 'json',
    sink: { write: () => undefined },
  });
  readiness = createReadiness();
  ready = readiness.register('mesh state from the controller');
  admin = await start(0);
});

afterEach(async () => {
  await admin.close();
});

function start(metricsPort: number): Promise<AdminServers> {
  return startAdmin({
    adminPort: 0,
    metricsPort,
    readinessPort: 0,
    metrics: createMetrics({ processFigures: true }),
    readiness,
    logger,
    configDump: () => ({ pods: 3 }),
    quit: () => (quits += 1),
  });
}

function ask(
  { port }: AddressInfo,
  path: string,
  { method = 'GET', host = 'localhost' } = {},
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const asking = request(
      { host: '127.0.0.1', port, path, method, headers: { host } },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      },
    );
    asking.on('error', reject);
    asking.end();
  });
}

test('readiness says what it waits for, and then that it is ready', async () => {
  expect(await ask(admin.readiness, '/healthz/ready')).toEqual({
    status: 503,
    text: 'waiting for mesh state from the controller\n',
  });
  ready();
  expect(await ask(admin.readiness, '/healthz/ready')).toMatchObject({ status: 200 });
  expect(await ask(admin.readiness, '/config_dump')).toMatchObject({ status: 404 });
});

test('a program that waits for something is alive', async () => {
  expect(await ask(admin.readiness, '/healthz/live')).toEqual({ status: 200, text: 'live\n' });
});

test('nobody keeps a probe out by holding connections', async () => {
  const { port } = admin.readiness;
  let closed = 0;
  const held = Array.from({ length: 300 }, () => {
    const socket = connect({ host: '127.0.0.1', port });
    return socket.on('error', () => undefined).on('close', () => (closed += 1));
  });
  try {
    await Promise.all(held.map((socket) => once(socket, 'connect')));
    expect(await ask(admin.readiness, '/healthz/live')).toMatchObject({ status: 200 });
    expect(closed).toBeGreaterThan(150);
  } finally {
    for (const socket of held) socket.destroy();
  }
});

test('metrics under both of the paths that scrapers use, and nothing else there', async () => {
  for (const path of ['/metrics', '/stats/prometheus']) {
    const { status, text } = await ask(admin.metrics, path);
    expect(status).toBe(200);
    expect(text).toContain('process_cpu_seconds_total');
  }
  expect(await ask(admin.metrics, '/quitquitquit', { method: 'POST' })).toMatchObject({
    status: 404,
  });
  expect(quits).toBe(0);
});

test('the admin port is on loopback, dumps the configuration and changes the log level', async () => {
  expect(admin.admin.address).toBe('127.0.0.1');
  expect(JSON.parse((await ask(admin.admin, '/config_dump')).text)).toEqual({ pods: 3 });
  expect(await ask(admin.admin, '/logging?level=debug', { method: 'POST' })).toMatchObject({
    status: 200,
  });
  expect(logger.level).toBe('debug');
  expect(await ask(admin.admin, '/logging?level=loud', { method: 'POST' })).toMatchObject({
    status: 400,
  });
  expect(logger.level).toBe('debug');
});

test('a page that reaches loopback under another name is turned away', async () => {
  for (const host of ['evil.example', 'localhost.evil.example', '127.0.0.1.nip.example']) {
    expect(await ask(admin.admin, '/config_dump', { host })).toMatchObject({ status: 403 });
    const quit = await ask(admin.admin, '/quitquitquit', { method: 'POST', host });
    expect(quit.status).toBe(403);
  }
  expect(quits).toBe(0);
});

test('/quitquitquit is a POST', async () => {
  expect(await ask(admin.admin, '/quitquitquit')).toMatchObject({ status: 404 });
  expect(quits).toBe(0);
  expect(await ask(admin.admin, '/quitquitquit', { method: 'POST' })).toMatchObject({
    status: 200,
  });
  expect(quits).toBe(1);
});

test('a port that is taken fails the start, and is named', async () => {
  const holder = createServer();
  await new Promise<void>((resolve) => holder.listen(0, resolve));
  const { port } = holder.address() as AddressInfo;
  await expect(start(port)).rejects.toThrow(`EADDRINUSE: address already in use :::${port}`);
  holder.close();
});
