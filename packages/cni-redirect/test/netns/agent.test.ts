import { mkdtempSync, rmSync, writeFileSync, mkdirSync, readFileSync } from 'node:fs';
import { request } from 'node:http';
import type { Socket } from 'node:net';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { AgentFrame, EnrolledPod } from '@ambit/api';
import { agentSocketName, decodeAgentFrame, enrolmentSchema } from '@ambit/api';
import { createLogger, envOf } from '@ambit/core';
import { FakeKube } from '@ambit/testkit';
import { KubeConfig } from '@kubernetes/client-node';
import type { Agent } from '../../src/agent/app.ts';
import { startAgent } from '../../src/agent/app.ts';
import { parseConfig } from '../../src/agent/config.ts';
import type { Echo, TestPod } from './world.ts';
import { ask, dial, makePod, rulesOf, serveIn } from './world.ts';

const uid = '11111111-2222-3333-4444-555555555555';
let world: TestPod;
let peer: TestPod;
let kube: FakeKube;
let agent: Agent | undefined;
let root: string;
const zs: FakeZtunnel[] = [];
const echoes: Echo[] = [];
const logs: string[] = [];

/** Does what ztunnel does on this socket: it listens in the pods it is told of and says so. */
class FakeZtunnel {
  readonly frames: AgentFrame[] = [];
  readonly pods = new Map<string, EnrolledPod>();
  /** What was true of the world when each frame came. */
  readonly seen: { kind: string; captured: boolean; annotated: boolean }[] = [];
  readonly #socket: Socket;
  readonly #listeners: Echo[] = [];

  constructor(instance: string) {
    this.#socket = connect(join(root, agentSocketName));
    this.#socket.on('error', () => undefined);
    this.#socket.write(`${JSON.stringify({ kind: 'hello', schema: enrolmentSchema, instance })}\n`);
    let text = '';
    this.#socket.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        this.#frame(text.slice(0, end));
        text = text.slice(end + 1);
      }
    });
    zs.push(this);
  }

  #frame(line: string): void {
    const frame = decodeAgentFrame(line);
    if (!frame.ok) throw new Error(frame.error.message);
    const { value } = frame;
    this.frames.push(value);
    this.seen.push({
      kind: value.kind,
      captured: rulesOf(world).includes('redirect to :15001'),
      annotated: annotation() === 'enabled',
    });
    if (value.kind === 'pod-added' && !this.pods.has(value.pod.uid)) {
      this.pods.set(value.pod.uid, value.pod);
      if (this.#listeners.length === 0 && !zs.some((z) => z !== this && z.#listeners.length > 0))
        this.#listeners.push(
          ...[15001, 15006, 15008].map((port) => serveIn(world, port, `z${port}`)),
        );
    }
    if (value.kind === 'pod-removed') this.pods.delete(value.uid);
    this.#socket.write(`${JSON.stringify({ kind: 'ack', id: value.id })}\n`);
  }

  /** Takes nothing new in the pod; what is open goes on. */
  stopListening(): void {
    for (const { server } of this.#listeners) server.close();
  }

  close(): void {
    this.#socket.destroy();
    for (const listener of this.#listeners.splice(0)) listener.close();
  }
}

const pods = '/api/v1/pods';
const namespaces = '/api/v1/namespaces';

function annotation(): unknown {
  const found = kube.get(pods, 'shop/cart')?.metadata as
    { annotations?: Record<string, string> } | undefined;
  return found?.annotations?.['ambient.istio.io/redirection'];
}

function putPod(labels: Record<string, string> = {}): void {
  kube.put(pods, {
    metadata: { name: 'cart', namespace: 'shop', uid, labels },
    spec: { nodeName: 'node-a', serviceAccountName: 'cart', containers: [] },
    status: { phase: 'Running', podIP: world.ip4, podIPs: [{ ip: world.ip4 }, { ip: world.ip6 }] },
  });
}

function label(mode: string | undefined): void {
  kube.put(namespaces, {
    metadata: {
      name: 'shop',
      labels: mode === undefined ? {} : { 'istio.io/dataplane-mode': mode },
    },
  });
}

async function start(): Promise<void> {
  const config = parseConfig(
    envOf({
      NODE_NAME: 'node-a',
      STATE_DIR: root,
      ZTUNNEL_SOCKET: join(root, agentSocketName),
      NETNS_DIR: '/run/netns',
      CNI_CONF_DIR: join(root, 'net.d'),
      CNI_BIN_DIR: join(root, 'bin'),
      PLUGIN_SOURCE: join(root, 'plugin'),
      RELEASE_GRACE: '300ms',
      HEALTH_PORT: '0',
      METRICS_PORT: '0',
    }),
  );
  const kubeconfig = new KubeConfig();
  kubeconfig.loadFromClusterAndUser(
    { name: 'fake', server: kube.url, skipTLSVerify: true },
    { name: 'agent' },
  );
  const logger = createLogger({
    scope: 'test',
    level: 'debug',
    format: 'text',
    sink: { write: (line) => logs.push(line) },
  });
  agent = await startAgent(config, { logger, kubeconfig });
}

async function stop(): Promise<void> {
  await agent?.stop();
  agent = undefined;
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 8000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`not so: ${what}\n${logs.join('')}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const captured = (): boolean => rulesOf(world).includes('redirect to :15001');

function cmdadd(
  change: Record<string, unknown> = {},
  path = '/cmdadd',
): Promise<{ status: number; text: string }> {
  const body = {
    Netns: world.path,
    PodName: 'cart',
    PodNamespace: 'shop',
    PodUID: uid,
    ContainerID: 'c1',
    IPs: [{ Address: `${world.ip4}/32` }, { Address: `${world.ip6}/128` }],
    ...change,
  };
  return new Promise((resolve, reject) => {
    const call = request(
      { socketPath: join(root, 'pluginevent.sock'), method: 'POST', path },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      },
    );
    call.on('error', reject);
    call.end(JSON.stringify(body));
  });
}

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'cni-agent-'));
  mkdirSync(join(root, 'net.d'));
  writeFileSync(join(root, 'plugin'), '#!/bin/sh\n', { mode: 0o755 });
  writeFileSync(
    join(root, 'net.d/10-main.conflist'),
    JSON.stringify({ cniVersion: '1.0.0', name: 'main', plugins: [{ type: 'ptp' }] }),
  );
  world = makePod('agent-pod', 2);
  peer = makePod('agent-peer', 3);
  kube = await FakeKube.start();
  logs.length = 0;
});

afterEach(async () => {
  for (const z of zs.splice(0)) z.close();
  for (const echo of echoes.splice(0)) echo.close();
  await stop();
  await kube.close();
  world.close();
  peer.close();
  rmSync(root, { recursive: true });
});

describe('a running pod', () => {
  test('is captured when its namespace is labelled: listeners, rules, annotation', async () => {
    label(undefined);
    putPod();
    await start();
    const z = new FakeZtunnel('z1');
    await until('told', () => z.frames.length === 1);
    expect(captured()).toBe(false);
    label('ambient');
    await until('annotated', () => annotation() === 'enabled');
    expect(z.seen.at(-1)).toEqual({ kind: 'pod-added', captured: false, annotated: false });
    expect(captured()).toBe(true);
    expect(await ask(peer, world.ip4, 80)).toBe('z15006');
  });

  test('keeps its connections when it leaves, and its rules go when they have ended', async () => {
    echoes.push(serveIn(peer, 80, 'peer'));
    label('ambient');
    putPod();
    await start();
    const z = new FakeZtunnel('z1');
    await until('captured', () => annotation() === 'enabled');
    const open = dial(world, peer.ip4, 80);
    expect(await open.line()).toBe('z15001');
    label(undefined);
    await until('released', () => z.frames.at(-1)?.kind === 'pod-removed');
    expect(z.frames.at(-1)).toMatchObject({ uid, why: 'released' });
    expect(z.seen.at(-1)).toEqual({ kind: 'pod-removed', captured: false, annotated: false });
    expect(await ask(world, peer.ip4, 80)).toBe('peer');
    await new Promise((resolve) => setTimeout(resolve, 5500));
    expect(await open.echo('still here')).toBe('still here');
    open.close();
    // For as long as the proxy still listens for who is late, it needs them to answer.
    await new Promise((resolve) => setTimeout(resolve, 5500));
    expect(rulesOf(world)).toContain('table inet ambit');
    z.stopListening();
    await until('deleted', () => !rulesOf(world).includes('table inet ambit'));
  });

  test('goes on when the agent restarts, and ztunnel is told of it before all else', async () => {
    label('ambient');
    putPod();
    await start();
    new FakeZtunnel('z1');
    await until('captured', () => annotation() === 'enabled' && captured());
    const open = dial(world, peer.ip4, 80);
    expect(await open.line()).toBe('z15001');
    await stop();
    await start();
    const again = new FakeZtunnel('z1');
    await until('told', () => again.frames.some(({ kind }) => kind === 'pods-complete'));
    expect(again.frames.slice(0, 2).map(({ kind }) => kind)).toEqual([
      'pod-added',
      'pods-complete',
    ]);
    expect(captured()).toBe(true);
    expect(await open.echo('on')).toBe('on');
    open.close();
  });

  test('that was deleted while no agent ran is let go', async () => {
    label('ambient');
    putPod();
    await start();
    new FakeZtunnel('z1');
    await until('captured', () => annotation() === 'enabled');
    await stop();
    kube.delete(pods, 'shop/cart');
    await start();
    const again = new FakeZtunnel('z2');
    await until('complete', () => again.frames.some(({ kind }) => kind === 'pods-complete'));
    expect(again.pods.size).toBe(0);
    expect(JSON.parse(readFileSync(join(root, 'pods.json'), 'utf8'))).toEqual([]);
  });

  test('is told to a second ztunnel, and to the first again when the second goes', async () => {
    label('ambient');
    putPod();
    await start();
    const first = new FakeZtunnel('z1');
    await until('captured', () => annotation() === 'enabled');
    const second = new FakeZtunnel('z2');
    await until('told', () => second.frames.some(({ kind }) => kind === 'pods-complete'));
    expect([...second.pods.keys()]).toEqual([uid]);
    const before = first.frames.length;
    second.close();
    await until('told again', () => first.frames.length >= before + 2);
    expect(first.frames.slice(before).map(({ kind }) => kind)).toEqual([
      'pod-added',
      'pods-complete',
    ]);
    expect(captured()).toBe(true);
  });

  test('is found after a watch that expired and a list that shows the change', async () => {
    label(undefined);
    putPod();
    await start();
    const z = new FakeZtunnel('z1');
    await until('told', () => z.frames.length === 1);
    kube.silent = true;
    label('ambient');
    kube.compact();
    kube.silent = false;
    kube.expireWatches();
    await until('captured', () => annotation() === 'enabled' && captured());
  });
});

describe('a starting pod', () => {
  test('is closed and refused while no ztunnel is connected, and taken once one is', async () => {
    label('ambient');
    await start();
    putPod();
    const app = serveIn(world, 80, 'app');
    echoes.push(app);
    const refused = await cmdadd();
    expect(refused.status).toBe(503);
    expect(refused.text).toContain('no ztunnel is connected on this node');
    expect(await ask(peer, world.ip4, 80)).toBe('silent');
    const z = new FakeZtunnel('z1');
    await until('told', () => z.frames.some(({ kind }) => kind === 'pods-complete'));
    expect(await cmdadd({}, '/cmdcheck')).toMatchObject({
      status: 503,
      text: expect.stringContaining('it is to be in the mesh and is not captured'),
    });
    expect(await cmdadd()).toMatchObject({ status: 200 });
    expect(await cmdadd({}, '/cmdcheck')).toEqual({ status: 200, text: 'enrolled' });
    expect(await ask(peer, world.ip4, 80)).toBe('z15006');
    expect(app.heard).toEqual([]);
  });

  test.each([
    ['another UID', { PodUID: '99999999-0000-0000-0000-000000000000' }, 'has UID'],
    ['the namespace of another pod', { Netns: '/run/netns/agent-peer' }, 'lacks the addresses'],
    ['a pod that nobody knows', { PodName: 'ghost' }, 'knows no pod'],
    ['a namespace that is none', { Netns: '/run/netns/missing' }, 'cannot join'],
  ])('with %s is refused', async (_, change, reason) => {
    label('ambient');
    putPod();
    await start();
    const z = new FakeZtunnel('z1');
    await until('complete', () => z.frames.some(({ kind }) => kind === 'pods-complete'));
    await until('captured', () => annotation() === 'enabled');
    const answer = await cmdadd(change);
    expect(answer.status).toBe(503);
    expect(answer.text).toContain(reason);
    expect(rulesOf(peer)).toBe('');
  });

  test('that is not labelled passes untouched', async () => {
    label(undefined);
    putPod();
    await start();
    expect(await cmdadd()).toEqual({ status: 200, text: 'not-labelled' });
    expect(rulesOf(world)).toBe('');
  });

  test('waits when the API server is away, with the reason', async () => {
    label('ambient');
    putPod();
    await start();
    kube.intercept = ({ url }) => (url.pathname.includes('/pods/cart') ? 'drop' : undefined);
    const answer = await cmdadd();
    expect(answer.status).toBe(503);
    expect(answer.text).toContain('pod shop/cart cannot join the mesh');
  });
});

test('the plugin is chained, and chained again when somebody rewrites the file', async () => {
  label(undefined);
  await start();
  const file = join(root, 'net.d/10-main.conflist');
  const types = (): string[] =>
    (JSON.parse(readFileSync(file, 'utf8')) as { plugins: { type: string }[] }).plugins.map(
      ({ type }) => type,
    );
  expect(types()).toEqual(['ptp', 'ambit-cni']);
  writeFileSync(
    file,
    JSON.stringify({ cniVersion: '1.0.0', name: 'main', plugins: [{ type: 'bridge' }] }),
  );
  await until('chained', () => types().join() === 'bridge,ambit-cni');
});

test('readiness says what is missing', async () => {
  label(undefined);
  await start();
  const port = agent!.healthAddress.port;
  const ready = (): Promise<number> =>
    new Promise((resolve) => {
      request({ port, path: '/readyz' }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      }).end();
    });
  expect(await ready()).toBe(503);
  const z = new FakeZtunnel('z1');
  await until('complete', () => z.frames.length === 1);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(await ready()).toBe(200);
});
