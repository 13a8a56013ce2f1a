import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { AgentWorld, podsPath, uid } from './agent-world.ts';
import { dial, rulesOf, serveIn } from './world.ts';

let w: AgentWorld;
const sets = '/apis/apps/v1/daemonsets';
const enabled = { 'ambient.istio.io/redirection': 'enabled' };
const env = { DAEMONSET_NAME: 'cni-redirect', POD_NAMESPACE: 'istio-system', POD_NAME: 'agent' };

beforeEach(async () => {
  w = await AgentWorld.make();
  leaving(false);
  w.kube.put(podsPath, {
    metadata: { name: 'agent', namespace: 'istio-system', uid: 'u-9' },
    spec: { nodeName: 'node-a', hostNetwork: true, containers: [] },
  });
});

afterEach(() => w.close());

function leaving(leaves: boolean): void {
  const annotations = leaves ? { 'ambit.dev/leaving': 'true' } : {};
  w.kube.put(sets, { metadata: { name: 'cni-redirect', namespace: 'istio-system', annotations } });
}

function hasLeft(): boolean {
  const pod = w.kube.get(podsPath, 'istio-system/agent');
  const { annotations } = pod?.metadata as { annotations?: Record<string, string> };
  return annotations?.['ambit.dev/left'] === 'true';
}

const hasRules = (): boolean => rulesOf(w.pod).includes('table inet ambit');
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe('an agent whose mesh leaves says so', () => {
  test('only when a pod that was just being captured is let go', async () => {
    w.label(undefined);
    w.putPod();
    await w.start(env);
    const z = w.ztunnel('z1');
    await w.until('connected', () => z.frames.length > 0);
    z.holds = true;
    w.label('ambient');
    await w.until('asked', () => z.frames.some(({ kind }) => kind === 'pod-added'));
    leaving(true);
    await pause(700);
    expect(hasLeft()).toBe(false);
    z.holds = false;
    z.stopListening();
    await w.until('left', hasLeft);
    expect(rulesOf(w.pod)).toBe('');
    await pause(500);
    expect(w.annotation()).toBeUndefined();
    expect(rulesOf(w.pod)).toBe('');
  });

  test('and captures no pod that was about to start', async () => {
    w.label('ambient');
    w.putPod({ annotations: enabled });
    w.kube.put(podsPath, {
      metadata: { name: 'new', namespace: 'shop', uid: 'u-2' },
      spec: { nodeName: 'node-a', containers: [] },
      status: { phase: 'Pending' },
    });
    await w.start(env);
    const z = w.ztunnel('z1');
    z.holds = true;
    const starting = w.cmdadd({
      Netns: w.peer.path,
      PodName: 'new',
      PodUID: 'u-2',
      IPs: [{ Address: `${w.peer.ip4}/32` }],
    });
    await w.until('closed', () => rulesOf(w.peer).includes('table inet ambit'));
    leaving(true);
    await pause(300);
    z.holds = false;
    expect(await starting).toMatchObject({
      status: 503,
      text: expect.stringContaining('the mesh is leaving this node'),
    });
    await w.until('left', hasLeft);
    expect(rulesOf(w.peer)).not.toContain('redirect to :15001');
  });
});

describe('the rules of a pod that was let go', () => {
  async function release(): Promise<{ readonly close: () => void }> {
    w.echoes.push(serveIn(w.peer, 80, 'peer'));
    w.label('ambient');
    w.putPod();
    await w.start(env);
    const z = w.ztunnel('z1');
    await w.until('captured', () => w.annotation() === 'enabled');
    const open = dial(w.pod, w.peer.ip4, 80);
    expect(await open.line()).toBe('z15001');
    w.label(undefined);
    await w.until('released', () => z.frames.at(-1)?.kind === 'pod-removed');
    await w.stop();
    expect(hasRules()).toBe(true);
    return open;
  }

  const record = (): unknown =>
    (JSON.parse(readFileSync(join(w.root, 'pods.json'), 'utf8')) as { uid: string }[]).find(
      (one) => one.uid === uid,
    );

  test('are deleted by the next agent where connections outlived the one before', async () => {
    const open = await release();
    await w.start(env);
    w.ztunnel('z2');
    await pause(5_500);
    expect(hasRules()).toBe(true);
    expect(record()).toMatchObject({ draining: true });
    open.close();
    w.ztunnels[0]!.stopListening();
    await w.until('deleted', () => !hasRules());
    // It is written down a moment later.
    await w.until('forgotten', () => !JSON.stringify(record()).includes('draining'));
  });

  test('are deleted by one whose mesh leaves', async () => {
    const open = await release();
    await w.start(env);
    open.close();
    w.ztunnels[0]!.stopListening();
    leaving(true);
    await w.until('left', hasLeft);
    expect(rulesOf(w.pod)).toBe('');
  });

  test('stay where it is in the mesh again', async () => {
    const open = await release();
    await w.start(env);
    w.ztunnel('z2');
    w.label('ambient');
    await w.until('captured', () => w.captured() && w.annotation() === 'enabled');
    open.close();
    expect(record()).not.toHaveProperty('draining');
    await pause(5_500);
    expect(w.captured()).toBe(true);
  });
});

test('a pod that starts while ztunnel is about to connect to a new agent waits for it', async () => {
  w.label('ambient');
  w.putPod();
  await w.start(env);
  const starting = w.cmdadd();
  await w.until('closed', hasRules);
  await pause(1_000);
  w.ztunnel('z1');
  expect(await starting).toEqual({ status: 200, text: 'enrolled' });
});
