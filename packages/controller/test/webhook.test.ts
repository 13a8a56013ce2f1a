import * as https from 'node:https';
import { connect } from 'node:tls';

import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';

import { loadAuthority, makeSelfSignedRoot } from '../src/ca/authority.ts';
import { makeServing } from '../src/ca/serving.ts';
import type { AdmissionRequest, Verdict } from '../src/webhook/admission.ts';
import type { Webhook } from '../src/webhook/server.ts';
import { startWebhook } from '../src/webhook/server.ts';
import { memoryLog, trustDomain, until } from './support.ts';
import { value } from './records.ts';

const mebibyte = 1024 * 1024;

/** What reaches the webhook's port, from whoever can reach it. */
describe('the webhook port', () => {
  let webhook: Webhook;
  let ca = '';
  const asked: AdmissionRequest[] = [];
  const log = memoryLog();
  beforeAll(async () => {
    const nowMs = Date.now();
    const root = value(await loadAuthority(await makeSelfSignedRoot(trustDomain(), nowMs), nowMs));
    ca = root.rootsPem.join('');
    webhook = await startWebhook({
      host: '127.0.0.1',
      port: 0,
      certificate: await makeServing(root, ['ambit'], { nowMs, ttlMs: 3_600_000 }),
      judge: (request): Verdict => {
        asked.push(request);
        if (request.name === 'broken') throw new Error('the judge fails');
        return { errors: [], warnings: [] };
      },
      maxHeldBytes: 10 * mebibyte,
      log,
    });
  });
  afterAll(() => webhook.close());

  const send = (
    body: string | Buffer,
    { path = '/validate', method = 'POST' } = {},
  ): Promise<{ readonly status: number; readonly text: string }> =>
    new Promise((resolve, reject) => {
      const options = { ca, servername: 'ambit', host: '127.0.0.1', port: webhook.address.port };
      const request = https.request({ ...options, path, method, agent: false }, (answer) => {
        let text = '';
        answer.setEncoding('utf8');
        answer.on('data', (chunk: string) => (text += chunk));
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text }));
      });
      request.on('error', reject);
      request.end(body);
    });
  const review = (request: object = {}): string =>
    JSON.stringify({
      apiVersion: 'admission.k8s.io/v1',
      kind: 'AdmissionReview',
      request: {
        uid: 'u',
        resource: { group: 'g', resource: 'r' },
        operation: 'CREATE',
        ...request,
      },
    });

  test('answers a review', async () => {
    const { status, text } = await send(review({ name: 'one' }));
    expect(status).toBe(200);
    expect(JSON.parse(text)).toMatchObject({ response: { uid: 'u', allowed: true } });
  });

  test.each<[string, string | Buffer, { path?: string; method?: string }, number]>([
    ['another path', review(), { path: '/debug' }, 404],
    ['another method', '', { method: 'GET' }, 405],
    ['no JSON', '{', {}, 400],
    ['another kind', '{}', {}, 400],
    ['another version', review().replace('k8s.io/v1', 'k8s.io/v1beta1'), {}, 400],
    ['a review that names no request', review({ uid: undefined }), {}, 400],
    ['more than is ever sent', Buffer.alloc(9 * mebibyte, 0x20), {}, 413],
    ['more values than an object can have', `[${'{},'.repeat(2_500_000)}{}]`, {}, 413],
    ['a hundred thousand brackets', '['.repeat(100_000), {}, 400],
    ['one that the judge does not survive', review({ name: 'broken' }), {}, 500],
  ])('refuses %s and goes on', async (_what, body, options, expected) => {
    // Whoever sends on while being refused may see the connection end before the answer.
    const status = await send(body, options).then(
      (answer) => answer.status,
      () => 413,
    );
    expect(status).toBe(expected);
    expect((await send(review({ name: 'next' }))).status).toBe(200);
  });

  test('holds no more of bodies that do not end than there is room for', async () => {
    let cutOff = 0;
    const strangers = Array.from({ length: 14 }, () => {
      let isTold = false;
      return (
        connect({ ca, servername: 'ambit', host: '127.0.0.1', port: webhook.address.port })
          .on('error', () => undefined)
          // Who is only slow is told so.
          .on('data', () => (isTold = true))
          .on('close', () => (cutOff += isTold ? 0 : 1))
      );
    });
    for (const socket of strangers) {
      socket.write('POST /validate HTTP/1.1\r\nhost: a\r\ncontent-length: 2000000\r\n\r\n');
      socket.write(Buffer.alloc(mebibyte, 0x20));
    }
    try {
      await until(() => cutOff >= 4, 'the longest are cut off');
      expect((await send(review({ name: 'next' }))).status).toBe(200);
    } finally {
      for (const socket of strangers) socket.destroy();
    }
  });

  test('cuts off who sends slowly', async () => {
    const socket = connect({
      ca,
      servername: 'ambit',
      host: '127.0.0.1',
      port: webhook.address.port,
    });
    const started = performance.now();
    await new Promise<void>((resolve, reject) => {
      socket.on('error', reject);
      socket.on('close', () => resolve());
      socket.resume();
      socket.write('POST /validate HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n{');
    });
    expect(performance.now() - started).toBeLessThan(9_000);
  });
});
