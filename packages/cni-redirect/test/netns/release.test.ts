import { afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { proxyMark } from '@ambit/api';
import { warmThreadpool } from '@ambit/core';
import { deleteRules } from '../../src/agent/release.ts';
import { defaultCapture, renderPodRules, renderRemoval } from '../../src/rules/index.ts';
import { runInPod } from '../../src/rules/run.ts';
import type { Dialled, Echo, TestPod } from './world.ts';
import { dial, makePod, rulesOf, serveIn, sh } from './world.ts';

let pod: TestPod;
let peer: TestPod;
const open: { close(): void }[] = [];

const keep = <T extends { close(): void }>(one: T): T => {
  open.push(one);
  return one;
};

beforeAll(async () => warmThreadpool());
beforeEach(() => {
  pod = makePod('release-pod', 2);
  peer = makePod('release-peer', 3);
});
afterEach(() => {
  for (const one of open.splice(0)) one.close();
  pod.close();
  peer.close();
});

describe.each(['IPv4', 'IPv6'] as const)('a pod of %s that has left the mesh', (family) => {
  const of = (one: TestPod) => (family === 'IPv4' ? one.ip4 : one.ip6);
  let app: Echo;

  /** A connection past the proxy from the port of something that the proxy delivered. */
  async function leaveAndConnect(): Promise<Dialled> {
    app = keep(serveIn(pod, 80, 'app'));
    await runInPod(pod.netns, renderPodRules({ ...defaultCapture, families: ['IPv4', 'IPv6'] }));
    const delivered = dial(pod, of(pod), 80, { mark: proxyMark, from: of(peer) });
    expect(await delivered.line()).toBe('app');
    const { localPort } = delivered.socket;
    delivered.close();
    await runInPod(pod.netns, renderRemoval('drain'));
    const direct = keep(dial(peer, of(pod), 80, { from: of(peer), fromPort: localPort }));
    expect(await direct.line()).toBe('app');
    expect(app.heard.map(({ from }) => from)).toEqual([of(peer), of(peer)]);
    return direct;
  }

  test('keeps its rules while a connection has a translated port, and not longer', async () => {
    const direct = await leaveAndConnect();
    expect(await deleteRules(pod.netns, 0, false)).toBe('not-yet');
    const deleted = deleteRules(pod.netns, 5_000, false);
    direct.close();
    expect(await deleted).toBe('deleted');
    expect(rulesOf(pod)).toBe('');
  });

  test('that cannot wait keeps a table that takes nothing, and the connection goes on', async () => {
    const direct = await leaveAndConnect();
    expect(await deleteRules(pod.netns, 0, true)).toBe('left');
    expect(rulesOf(pod)).not.toMatch(/redirect|drop/);
    expect(sh(`ip -n ${pod.name} rule show priority 100`)).toBe('');
    expect(await direct.echo('still here')).toBe('still here');
  });

  test('does not wait for connections whose ports are their own', async () => {
    app = keep(serveIn(pod, 80, 'app'));
    await runInPod(pod.netns, renderPodRules({ ...defaultCapture, families: ['IPv4', 'IPv6'] }));
    await runInPod(pod.netns, renderRemoval('drain'));
    const direct = keep(dial(peer, of(pod), 80));
    expect(await direct.line()).toBe('app');
    expect(await deleteRules(pod.netns, 0, false)).toBe('deleted');
    expect(await direct.echo('still here')).toBe('still here');
  });
});
