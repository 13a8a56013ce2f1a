import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { proxyMark } from '@ambit/api';
import { netnsInode } from '@ambit/core';
import { AgentWorld, podsPath, uid } from './agent-world.ts';
import { ask, dial, rulesOf, serveIn } from './world.ts';

let w: AgentWorld;

beforeEach(async () => {
  w = await AgentWorld.make();
});

afterEach(() => w.close());

describe('a running pod', () => {
  test('is captured when its namespace is labelled: listeners, rules, annotation', async () => {
    w.label(undefined);
    w.putPod();
    await w.start();
    const z = w.ztunnel('z1');
    await w.until('told', () => z.frames.length === 1);
    expect(w.captured()).toBe(false);
    w.label('ambient');
    await w.until('annotated', () => w.annotation() === 'enabled');
    expect(z.seen.at(-1)).toEqual({ kind: 'pod-added', captured: false, annotated: false });
    expect(w.captured()).toBe(true);
    expect(await ask(w.peer, w.pod.ip4, 80)).toBe('z15006');
  });

  test('keeps its connections when it leaves, and its rules go when they have ended', async () => {
    w.echoes.push(serveIn(w.peer, 80, 'peer'));
    w.label('ambient');
    w.putPod();
    await w.start();
    const z = w.ztunnel('z1');
    await w.until('captured', () => w.annotation() === 'enabled');
    const open = dial(w.pod, w.peer.ip4, 80);
    expect(await open.line()).toBe('z15001');
    w.label(undefined);
    await w.until('released', () => z.frames.at(-1)?.kind === 'pod-removed');
    expect(z.frames.at(-1)).toMatchObject({ uid, why: 'released' });
    expect(z.seen.at(-1)).toEqual({ kind: 'pod-removed', captured: false, annotated: false });
    expect(await ask(w.pod, w.peer.ip4, 80)).toBe('peer');
    await new Promise((resolve) => setTimeout(resolve, 5500));
    expect(await open.echo('still here')).toBe('still here');
    open.close();
    // For as long as the proxy still listens for who is late, it needs them to answer.
    await new Promise((resolve) => setTimeout(resolve, 5500));
    expect(rulesOf(w.pod)).toContain('table inet ambit');
    z.stopListening();
    await w.until('deleted', () => !rulesOf(w.pod).includes('table inet ambit'));
  });

  test('keeps silent connections from before, also when the proxy comes from their ports', async () => {
    w.echoes.push(serveIn(w.pod, 80, 'app'));
    const of = [w.pod.ip4, w.pod.ip6].map((to) => ({
      to,
      from: to === w.pod.ip4 ? w.peer.ip4 : w.peer.ip6,
    }));
    const before = of.map(({ to }) => dial(w.peer, to, 80));
    expect(await Promise.all(before.map((one) => one.line()))).toEqual(['app', 'app']);
    w.label('ambient');
    w.putPod();
    await w.start();
    w.ztunnel('z1');
    await w.until('captured', () => w.annotation() === 'enabled');
    const delivered = of.map(({ to, from }, at) =>
      dial(w.pod, to, 80, { mark: proxyMark, from, fromPort: before[at]?.socket.localPort }),
    );
    expect(await Promise.all(delivered.map((one) => one.line()))).toEqual(['app', 'app']);
    const all = [...before, ...delivered];
    expect(await Promise.all(all.map((one, at) => one.echo(String(at))))).toEqual([
      '0',
      '1',
      '2',
      '3',
    ]);
    for (const one of all) one.close();
  });

  test('is captured also where a client comes from the port of a connection from before that has ended', async () => {
    const app = serveIn(w.pod, 80, 'app');
    const before = dial(w.peer, w.pod.ip4, 80);
    expect(await before.line()).toBe('app');
    const fromPort = before.socket.localPort;
    w.label('ambient');
    w.putPod();
    await w.start();
    w.ztunnel('z1');
    await w.until('captured', () => w.annotation() === 'enabled');
    // Who ends first cannot come from its port again for a minute: the application does.
    before.socket.on('end', () => before.socket.end());
    app.close();
    expect(await before.line()).toBe('closed');
    expect(await ask(w.peer, w.pod.ip4, 80, { from: w.peer.ip4, fromPort })).toBe('z15006');
  });

  test('keeps connections that began after it left, with whichever port, when its rules go', async () => {
    w.echoes.push(serveIn(w.pod, 80, 'app'));
    w.label('ambient');
    w.putPod();
    await w.start();
    const z = w.ztunnel('z1');
    await w.until('captured', () => w.annotation() === 'enabled');
    const delivered = dial(w.pod, w.pod.ip4, 80, { mark: proxyMark, from: w.peer.ip4 });
    expect(await delivered.line()).toBe('app');
    const { localPort } = delivered.socket;
    delivered.close();
    w.label(undefined);
    await w.until('released', () => z.frames.at(-1)?.kind === 'pod-removed');
    z.stopListening();
    const direct = dial(w.peer, w.pod.ip4, 80, { from: w.peer.ip4, fromPort: localPort });
    expect(await direct.line()).toBe('app');
    await new Promise((resolve) => setTimeout(resolve, 5500));
    expect(await direct.echo('still here')).toBe('still here');
    direct.close();
    await w.until('deleted', () => !rulesOf(w.pod).includes('table inet ambit'));
  });

  test('goes on when the agent restarts, and ztunnel is told of it before all else', async () => {
    w.label('ambient');
    w.putPod();
    await w.start();
    w.ztunnel('z1');
    await w.until('captured', () => w.annotation() === 'enabled' && w.captured());
    const open = dial(w.pod, w.peer.ip4, 80);
    expect(await open.line()).toBe('z15001');
    await w.stop();
    await w.start();
    const again = w.ztunnel('z1');
    await w.until('told', () => again.frames.some(({ kind }) => kind === 'pods-complete'));
    expect(again.frames.slice(0, 2).map(({ kind }) => kind)).toEqual([
      'pod-added',
      'pods-complete',
    ]);
    expect(w.captured()).toBe(true);
    expect(await open.echo('on')).toBe('on');
    open.close();
  });

  test('that was deleted while no agent ran is let go', async () => {
    w.label('ambient');
    w.putPod();
    await w.start();
    w.ztunnel('z1');
    await w.until('captured', () => w.annotation() === 'enabled');
    await w.stop();
    w.kube.delete(podsPath, 'shop/cart');
    await w.start();
    const again = w.ztunnel('z2');
    await w.until('complete', () => again.frames.some(({ kind }) => kind === 'pods-complete'));
    expect(again.pods.size).toBe(0);
    expect(JSON.parse(readFileSync(join(w.root, 'pods.json'), 'utf8'))).toEqual([]);
  });

  test('is told to a second ztunnel, and to the first again when the second goes', async () => {
    w.label('ambient');
    w.putPod();
    await w.start();
    const first = w.ztunnel('z1');
    await w.until('captured', () => w.annotation() === 'enabled');
    const second = w.ztunnel('z2');
    await w.until('told', () => second.frames.some(({ kind }) => kind === 'pods-complete'));
    expect([...second.pods.keys()]).toEqual([uid]);
    const before = first.frames.length;
    second.close();
    await w.until('told again', () => first.frames.length >= before + 2);
    expect(first.frames.slice(before).map(({ kind }) => kind)).toEqual([
      'pod-added',
      'pods-complete',
    ]);
    expect(w.captured()).toBe(true);
  });

  test('is found after a watch that expired and a list that shows the change', async () => {
    w.label(undefined);
    w.putPod();
    await w.start();
    const z = w.ztunnel('z1');
    await w.until('told', () => z.frames.length === 1);
    w.kube.silent = true;
    w.label('ambient');
    w.kube.compact();
    w.kube.silent = false;
    w.kube.expireWatches();
    await w.until('captured', () => w.annotation() === 'enabled' && w.captured());
  });
});

describe('a starting pod', () => {
  test('is closed and refused while no ztunnel is connected, and taken once one is', async () => {
    w.label('ambient');
    await w.start();
    w.putPod();
    const app = serveIn(w.pod, 80, 'app');
    w.echoes.push(app);
    const refused = await w.cmdadd();
    expect(refused.status).toBe(503);
    expect(refused.text).toContain('no ztunnel is connected on this node');
    expect(await ask(w.peer, w.pod.ip4, 80)).toBe('silent');
    const z = w.ztunnel('z1');
    await w.until('told', () => z.frames.some(({ kind }) => kind === 'pods-complete'));
    expect(await w.cmdadd({}, '/cmdcheck')).toMatchObject({
      status: 503,
      text: expect.stringContaining('it is to be in the mesh and is not captured'),
    });
    expect(await w.cmdadd()).toMatchObject({ status: 200 });
    expect(await w.cmdadd({}, '/cmdcheck')).toEqual({ status: 200, text: 'enrolled' });
    expect(await ask(w.peer, w.pod.ip4, 80)).toBe('z15006');
    expect(app.heard).toEqual([]);
  });

  test.each([
    ['another UID', { PodUID: '99999999-0000-0000-0000-000000000000' }, 'has UID'],
    ['the namespace of another pod', { Netns: '/run/netns/agent-peer' }, 'lacks the addresses'],
    ['a pod that nobody knows', { PodName: 'ghost' }, 'knows no pod'],
    ['a namespace that is none', { Netns: '/run/netns/missing' }, 'cannot join'],
  ])('with %s is refused', async (_, change, reason) => {
    w.label('ambient');
    w.putPod();
    await w.start();
    const z = w.ztunnel('z1');
    await w.until('complete', () => z.frames.some(({ kind }) => kind === 'pods-complete'));
    await w.until('captured', () => w.annotation() === 'enabled');
    const answer = await w.cmdadd(change);
    expect(answer.status).toBe(503);
    expect(answer.text).toContain(reason);
    expect(rulesOf(w.peer)).toBe('');
  });

  test('whose runtime names its namespace by a process is found by its number', async () => {
    w.label('ambient');
    w.putPod();
    await w.start();
    w.ztunnel('z1');
    const process = spawn('ip', ['netns', 'exec', w.pod.name, 'sleep', '60']);
    try {
      const path = `/proc/${process.pid}/ns/net`;
      await w.until('inside', () => netnsInode(path) === w.pod.netns.inode);
      const named = { Netns: path, NetnsInode: netnsInode(path) };
      expect(await w.cmdadd(named)).toEqual({ status: 200, text: 'enrolled' });
      expect(w.captured()).toBe(true);
      const records = JSON.parse(readFileSync(join(w.root, 'pods.json'), 'utf8')) as object[];
      expect(records).toMatchObject([{ netns: w.pod.name }]);
    } finally {
      process.kill();
    }
  });

  test('whose namespace is not where the agent looks waits, and the answer says what to set', async () => {
    w.label('ambient');
    w.putPod();
    await w.start({ NETNS_DIR: w.root });
    const named = { Netns: w.pod.path, NetnsInode: w.pod.netns.inode };
    const { status, text } = await w.cmdadd(named);
    expect(status).toBe(503);
    expect(text).toContain(
      `${w.pod.path} is none of the network namespaces in ${w.root}; set cniNetnsDir`,
    );
  });

  test('that is not labelled passes untouched', async () => {
    w.label(undefined);
    w.putPod();
    await w.start();
    expect(await w.cmdadd()).toEqual({ status: 200, text: 'not-labelled' });
    expect(rulesOf(w.pod)).toBe('');
  });

  test('waits when the API server is away, with the reason', async () => {
    w.label('ambient');
    w.putPod();
    await w.start();
    w.kube.intercept = ({ url }) => (url.pathname.includes('/pods/cart') ? 'drop' : undefined);
    const answer = await w.cmdadd();
    expect(answer.status).toBe(503);
    expect(answer.text).toContain('pod shop/cart cannot join the mesh');
  });
});

test('the plugin is chained, and chained again when somebody rewrites the file', async () => {
  w.label(undefined);
  await w.start();
  const file = join(w.root, 'net.d/10-main.conflist');
  const types = (): string[] =>
    (JSON.parse(readFileSync(file, 'utf8')) as { plugins: { type: string }[] }).plugins.map(
      ({ type }) => type,
    );
  expect(types()).toEqual(['ptp', 'ambit-cni']);
  writeFileSync(
    file,
    JSON.stringify({ cniVersion: '1.0.0', name: 'main', plugins: [{ type: 'bridge' }] }),
  );
  await w.until('chained', () => types().join() === 'bridge,ambit-cni');
});

test('readiness says what is missing', async () => {
  w.label(undefined);
  await w.start();
  expect(await w.readyz()).toEqual({
    status: 503,
    text: 'no ztunnel is connected on this node\n',
  });
  w.ztunnel('z1');
  await w.until('ready', async () => (await w.readyz()).status === 200);
});
