import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { probeSourceIpv4 } from '@ambit/api';
import { AgentWorld, podsPath, uid } from './agent-world.ts';
import { ask, dial, ip, rulesOf, serveIn, sh } from './world.ts';

let w: AgentWorld;
const enabled = { 'ambient.istio.io/redirection': 'enabled' };
const sets = '/apis/apps/v1/daemonsets';

beforeEach(async () => {
  w = await AgentWorld.make();
});

afterEach(() => w.close());

const flush = (): string => sh(`ip netns exec agent-pod nft flush ruleset`);

async function startCaptured(env: Readonly<Record<string, string>> = {}): Promise<void> {
  w.label('ambient');
  w.putPod();
  await w.start(env);
  w.ztunnel('z1');
  await w.until('captured', () => w.captured() && w.annotation() === 'enabled');
}

describe('a pod that came back outside the mesh', () => {
  test('is closed at once, told of, and in the mesh before the node is ready', async () => {
    w.echoes.push(serveIn(w.pod, 80, 'app'));
    w.label('ambient');
    w.putPod({ annotations: enabled });
    expect(await ask(w.peer, w.pod.ip4, 80)).toBe('app');
    await w.start();
    await w.until('closed', () => rulesOf(w.pod).includes('table inet ambit'));
    expect(await ask(w.peer, w.pod.ip4, 80)).toBe('silent');
    expect((await w.readyz()).text).toBe('no ztunnel is connected on this node\n');
    w.ztunnel('z1');
    await w.until('ready', async () => (await w.readyz()).status === 200);
    expect(w.captured()).toBe(true);
    expect(await ask(w.peer, w.pod.ip4, 80)).toBe('z15006');
    expect(w.events()).toContainEqual({
      reason: 'CaptureLost',
      message: expect.stringContaining('it was outside the mesh'),
    });
  });

  test('whose rules an agent before had put in place has them again', async () => {
    await startCaptured();
    await w.stop();
    flush();
    await w.start();
    await w.until('captured', () => w.captured());
    expect(w.events()).toMatchObject([{ reason: 'CaptureLost' }]);
  });

  test('that no ztunnel can take stays closed, and the node takes others', async () => {
    w.label('ambient');
    w.putPod({ annotations: enabled });
    w.kube.put(podsPath, {
      metadata: { name: 'lost', namespace: 'shop', uid: 'u-2', annotations: enabled },
      spec: { nodeName: 'node-a', containers: [] },
      status: { phase: 'Running', podIP: '10.77.0.99', podIPs: [{ ip: '10.77.0.99' }] },
    });
    await w.start();
    w.ztunnel('z1');
    await w.until('ready', async () => (await w.readyz()).status === 200);
    expect(w.captured()).toBe(true);
    await w.until('told', () => w.events().some(({ reason }) => reason === 'CaptureFailed'));
    expect(w.events()).toContainEqual({
      reason: 'CaptureFailed',
      message: expect.stringContaining('network namespace of the pod was not found'),
    });
  });
});

describe('a pod that starts after a restart of the node', () => {
  const start = (namespace: string) =>
    w.cmdadd({
      Netns: w.peer.path,
      PodNamespace: namespace,
      PodName: 'new',
      PodUID: `u-${namespace}`,
      IPs: [{ Address: `${w.peer.ip4}/32` }, { Address: `${w.peer.ip6}/128` }],
    });
  const putNew = (namespace: string): void =>
    void w.kube.put(podsPath, {
      metadata: { name: 'new', namespace, uid: `u-${namespace}` },
      spec: { nodeName: 'node-a', containers: [] },
      status: { phase: 'Pending' },
    });

  test('waits until those that were there are verified, if it is to be in the mesh', async () => {
    w.label('ambient');
    w.putPod({ annotations: enabled });
    putNew('shop');
    putNew('plain');
    await w.start();
    w.ztunnel('z1').holds = true;
    await w.until('asked', () => w.ztunnels[0]!.frames.some(({ kind }) => kind === 'pod-added'));
    expect((await w.readyz()).text).toContain('the capture of shop/cart is not verified yet');
    const refused = await start('shop');
    expect(refused.status).toBe(503);
    expect(refused.text).toContain('the capture of shop/cart is not verified yet');
    // Nobody waits for what does not concern him.
    expect(await start('plain')).toEqual({ status: 200, text: 'not-labelled' });
    const waiting = start('shop');
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(w.captured()).toBe(false);
    w.ztunnels[0]!.holds = false;
    expect(await waiting).toEqual({ status: 200, text: 'enrolled' });
    expect(w.captured()).toBe(true);
  });

  test('does not wait for one that never was in the mesh and cannot join', async () => {
    w.label('ambient');
    w.putPod();
    putNew('shop');
    await w.start();
    w.ztunnel('z1').refuses = uid;
    await w.until('told', () => w.events().some(({ reason }) => reason === 'CaptureFailed'));
    expect(await start('shop')).toEqual({ status: 200, text: 'enrolled' });
    expect((await w.readyz()).status).toBe(200);
  });

  test('does not wait for itself, though its status still names its old address', async () => {
    w.label('ambient');
    w.putPod({ annotations: enabled, startedAt: '2020-01-01T00:00:00Z' });
    await w.start();
    w.ztunnel('z1');
    await w.until('told', () => w.events().length > 0);
    expect(await w.cmdadd()).toEqual({ status: 200, text: 'enrolled' });
  });
});

describe('a pod with an address that is not its own any more', () => {
  test('does not get the namespace of the one that has it, by the age of its containers', async () => {
    w.label('ambient');
    w.putPod({ annotations: enabled, startedAt: '2020-01-01T00:00:00Z' });
    await w.start();
    w.ztunnel('z1');
    await w.until('told', () => w.events().length > 0);
    expect(rulesOf(w.pod)).toBe('');
    // The kubelet has made the pod anew and says so.
    w.putPod({ annotations: enabled, startedAt: new Date().toISOString() });
    await w.until('captured', () => w.captured());
  });

  test('nor when two pods name it', async () => {
    w.label('ambient');
    w.putPod();
    w.kube.put(podsPath, {
      metadata: { name: 'dns', namespace: 'kube-system', uid: 'u-2' },
      spec: { nodeName: 'node-a', containers: [] },
      status: { phase: 'Running', podIP: w.pod.ip4, podIPs: [{ ip: w.pod.ip4 }] },
    });
    await w.start();
    w.ztunnel('z1');
    await w.until('told', () => w.events().length > 0);
    expect(rulesOf(w.pod)).toBe('');
    w.kube.delete(podsPath, 'kube-system/dns');
    await w.until('captured', () => w.captured());
  });
});

describe('a captured pod', () => {
  test('whose rules are flushed has them again in a while', async () => {
    await startCaptured();
    flush();
    await w.until('captured', () => w.captured());
    expect(w.events()).toMatchObject([{ reason: 'CaptureLost' }]);
  });

  test.each([
    ['are emptied', 'flush table inet ambit'],
    ['lose a chain', 'flush chain inet ambit filter-input; delete chain inet ambit filter-input'],
    ['get another one', 'insert rule inet ambit nat-output tcp dport 80 accept'],
  ])('whose rules %s has them again in a while, and it is counted', async (_, change) => {
    await startCaptured();
    const before = rulesOf(w.pod);
    sh(`ip netns exec agent-pod nft '${change}'`);
    expect(rulesOf(w.pod)).not.toBe(before);
    await w.until('repaired', () => rulesOf(w.pod) === before);
    expect(w.events()).toMatchObject([
      { reason: 'CaptureLost', message: expect.stringContaining('somebody changed the') },
    ]);
    expect(w.logs.join('')).toContain('lost=changed');
  });

  test('whose rules are as they were put there is left alone, whatever goes through them', async () => {
    await startCaptured();
    // One that is let through and one that is dropped and counted.
    expect(await ask(w.peer, w.pod.ip4, 80)).toBe('z15006');
    const from = ip(probeSourceIpv4);
    expect(await ask(undefined, w.pod.ip4, 80, { from })).toBe('silent');
    expect(rulesOf(w.pod)).toMatch(/counter packets [1-9]/);
    await new Promise((resolve) => setTimeout(resolve, 6_000));
    expect(w.events()).toEqual([]);
  });

  test('whose rules were emptied while no agent ran is closed at once by the next', async () => {
    w.echoes.push(serveIn(w.pod, 80, 'app'));
    await startCaptured();
    await w.stop();
    rmSync(join(w.root, 'pods.json'));
    w.ztunnels[0]!.close();
    sh('ip netns exec agent-pod nft flush table inet ambit');
    expect(await ask(w.peer, w.pod.ip4, 80)).toBe('app');
    await w.start();
    await w.until('closed', async () => (await ask(w.peer, w.pod.ip4, 80)) !== 'app');
    w.ztunnel('z2');
    await w.until('captured', async () => (await ask(w.peer, w.pod.ip4, 80)) === 'z15006');
  });

  test('does not lose its probes when an agent that has just begun writes those of another', async () => {
    const status = { phase: 'Running', podIP: '10.77.0.99', podIPs: [{ ip: '10.77.0.99' }] };
    const probe = { tcpSocket: { port: 8080 } };
    w.kube.put(podsPath, {
      metadata: { name: 'slow', namespace: 'shop', uid: 'u-2', annotations: enabled },
      spec: { nodeName: 'node-a', containers: [{ name: 'a', readinessProbe: probe }] },
      status,
    });
    const probes = (): string => sh('nft list set inet ambit-node probes4');
    await startCaptured();
    expect(probes()).toContain('10.77.0.99 . 8080');
    w.kube.delete(podsPath, 'shop/slow');
    await w.until('forgotten', () => !probes().includes('10.77.0.99'));
  });

  test('in which nobody listens any more is given to ztunnel again', async () => {
    await startCaptured();
    w.ztunnels[0]!.stopListening();
    expect(await ask(w.peer, w.pod.ip4, 80)).toBe('ECONNREFUSED');
    await w.until('listening', async () => (await ask(w.peer, w.pod.ip4, 80)) === 'z15006');
    expect(w.events()).toMatchObject([{ reason: 'CaptureLost' }]);
  });
});

describe('an agent that stops', () => {
  const env = { DAEMONSET_NAME: 'cni-redirect', POD_NAMESPACE: 'istio-system' };
  const plugins = (): string => readFileSync(join(w.root, 'net.d/10-main.conflist'), 'utf8');

  beforeEach(() => {
    w.kube.put(sets, { metadata: { name: 'cni-redirect', namespace: 'istio-system' } });
  });

  test('to be replaced leaves everything: new pods wait', async () => {
    await startCaptured(env);
    await w.stop();
    expect(w.captured()).toBe(true);
    expect(plugins()).toContain('ambit-cni');
    expect(existsSync(join(w.root, 'bin/ambit-cni'))).toBe(true);
  });

  test('because its DaemonSet was deleted leaves everything, too', async () => {
    await startCaptured(env);
    w.kube.delete(sets, 'istio-system/cni-redirect');
    await new Promise((resolve) => setTimeout(resolve, 300));
    await w.stop();
    expect(w.captured()).toBe(true);
    expect(w.annotation()).toBe('enabled');
    expect(plugins()).toContain('ambit-cni');
    expect(existsSync(join(w.root, 'bin/ambit-cni'))).toBe(true);
    expect(existsSync(join(w.root, 'pods.json'))).toBe(true);
    expect(await ask(w.peer, w.pod.ip4, 80)).toBe('z15006');
  });

  test('leaves nothing where it is told to at every stop', async () => {
    await startCaptured({ ...env, REMOVE_ON_STOP: 'true' });
    w.ztunnels[0]!.stopListening();
    await w.stop();
    expect(rulesOf(w.pod)).toBe('');
    expect(plugins()).not.toContain('ambit-cni');
  });

  test('because the mesh is uninstalled leaves nothing and cuts no connection that ends soon', async () => {
    w.echoes.push(serveIn(w.peer, 80, 'peer'));
    w.kube.put('/api/v1/nodes', { metadata: { name: 'node-a' } });
    await startCaptured({ ...env, TAINT_NODE: 'true' });
    await w.until('marked', () => existsSync(join(w.root, 'ready-since-boot')));
    // What a proxy has on the node's disk opens with this.
    writeFileSync(join(w.root, 'state.key'), 'key');
    const open = dial(w.pod, w.peer.ip4, 80);
    expect(await open.line()).toBe('z15001');
    const annotations = { 'ambit.dev/leaving': 'true' };
    w.kube.put(sets, {
      metadata: { name: 'cni-redirect', namespace: 'istio-system', annotations },
    });
    w.kube.delete(sets, 'istio-system/cni-redirect');
    // As helm does it: the permissions go with it.
    w.kube.intercept = () => ({ status: 401, body: { kind: 'Status', code: 401 } });
    await new Promise((resolve) => setTimeout(resolve, 300));
    const stopped = w.stop();
    await w.until('released', () => !w.captured());
    expect(await ask(w.pod, w.peer.ip4, 80)).toBe('peer');
    expect(await open.echo('still here')).toBe('still here');
    open.close();
    // The node's proxy ends at the same time, and with it what it still holds.
    w.ztunnels[0]!.close();
    await stopped;
    expect(rulesOf(w.pod)).toBe('');
    expect(plugins()).not.toContain('ambit-cni');
    expect(readdirSync(join(w.root, 'bin')).sort()).toEqual(['bridge', 'ptp']);
    expect(readdirSync(w.root).sort()).toEqual(['bin', 'net.d', 'plugin']);
    // Of the sandbox's own services tables may be there.
    expect(sh('nft list tables')).not.toMatch(/ambit(?!_services)/);
  });

  test('and starts again without its files writes them again', async () => {
    await startCaptured(env);
    await w.stop();
    rmSync(join(w.root, 'bin'), { recursive: true });
    w.putNetworkPlugins();
    await w.start(env);
    w.ztunnels[0]!.close();
    w.ztunnel('z2');
    await w.until('ready', async () => (await w.readyz()).status === 200);
    expect(existsSync(join(w.root, 'bin/ambit-cni'))).toBe(true);
    expect(await ask(w.peer, w.pod.ip4, 80)).toBe('z15006');
  });
});

test('a mesh that is being uninstalled leaves the node while the agent runs, and comes back if it is not', async () => {
  const state = (annotations: Readonly<Record<string, string>>): void => {
    w.kube.put(sets, {
      metadata: { name: 'cni-redirect', namespace: 'istio-system', annotations },
    });
  };
  const left = (): unknown =>
    (w.kube.get(podsPath, 'istio-system/agent')?.metadata as { annotations?: object } | undefined)
      ?.annotations;
  state({});
  w.kube.put(podsPath, {
    metadata: { name: 'agent', namespace: 'istio-system', uid: 'u-9' },
    spec: { nodeName: 'node-a', hostNetwork: true, containers: [] },
  });
  const env = {
    DAEMONSET_NAME: 'cni-redirect',
    POD_NAMESPACE: 'istio-system',
    POD_NAME: 'agent',
  };
  await startCaptured(env);
  const conflist = (): string => readFileSync(join(w.root, 'net.d/10-main.conflist'), 'utf8');
  state({ 'ambit.dev/leaving': 'true' });
  await w.until('released', () => !w.captured() && w.annotation() === undefined);
  w.ztunnels[0]!.stopListening();
  await w.until('left', () => JSON.stringify(left()) === '{"ambit.dev/left":"true"}');
  expect(rulesOf(w.pod)).toBe('');
  expect(conflist()).not.toContain('ambit-cni');
  state({});
  w.ztunnels[0]!.close();
  w.ztunnel('z2');
  await w.until(
    'back',
    () => w.captured() && JSON.stringify(left()) !== '{"ambit.dev/left":"true"}',
  );
  expect(conflist()).toContain('ambit-cni');
});

describe('a node that is to be tainted', () => {
  const other = { key: 'other', effect: 'NoSchedule' };
  const own = { key: 'cni.istio.io/not-ready', effect: 'NoSchedule' };
  const env = { TAINT_NODE: 'true' };
  const put = (...taints: object[]): void =>
    void w.kube.put('/api/v1/nodes', { metadata: { name: 'node-a' }, spec: { taints } });
  const taints = (): string =>
    (w.kube.get('/api/v1/nodes', 'node-a')?.['spec'] as { taints: { key: string }[] }).taints
      .map(({ key }) => key)
      .join();
  const isReady = async (): Promise<boolean> => (await w.readyz()).status === 200;
  const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

  test('is, from its boot until its agent is ready', async () => {
    w.label(undefined);
    put(other);
    await w.start(env);
    await w.until('tainted', () => taints() === `other,${own.key}`);
    w.ztunnel('z1');
    await w.until('ready', isReady);
    await w.until('untainted', () => taints() === 'other');
    // Who has it from elsewhere loses it as well.
    put(own, other);
    await w.until('untainted', () => taints() === 'other');
  });

  test('is not while its agent is replaced, and is after the next boot', async () => {
    w.label(undefined);
    put();
    await w.start(env);
    w.ztunnel('z1');
    await w.until('marked', () => existsSync(join(w.root, 'ready-since-boot')));
    await w.stop();
    await w.start(env);
    expect(await isReady()).toBe(false);
    await sleep(700);
    expect(taints()).toBe('');
    await w.stop();
    // A boot clears /var/run.
    rmSync(join(w.root, 'ready-since-boot'));
    await w.start(env);
    await w.until('tainted', () => taints() === own.key);
  });

  test('is not any more when the mesh leaves it, ready or not', async () => {
    w.label(undefined);
    put();
    const metadata = { name: 'cni-redirect', namespace: 'istio-system' };
    w.kube.put(sets, { metadata });
    await w.start({ ...env, DAEMONSET_NAME: 'cni-redirect' });
    await w.until('tainted', () => taints() === own.key);
    w.kube.put(sets, { metadata: { ...metadata, annotations: { 'ambit.dev/leaving': 'true' } } });
    await w.until('untainted', () => taints() === '');
  });
});

test('an agent that may not read pods says so and is alive', async () => {
  w.kube.intercept = () => ({ status: 403, body: { kind: 'Status', code: 403 } });
  void w.start({ HEALTH_PORT: '18000' }).catch(() => undefined);
  const asked = async (path: string): Promise<string> => {
    const response = await fetch(`http://127.0.0.1:18000${path}`).catch(() => undefined);
    return response === undefined ? '' : `${response.status} ${await response.text()}`;
  };
  await w.until('alive', async () => (await asked('/healthz')) === '200 ok\n');
  expect(await asked('/readyz')).toContain('503 the API server has not told the pods');
  w.kube.intercept = undefined;
  await w.until('started', () => w.agent !== undefined);
});

describe('an agent that may not patch pods', () => {
  const forbid = (): void => {
    const message = 'pods is forbidden: User "agent" cannot patch resource "pods"';
    w.kube.intercept = ({ method, url }) =>
      method === 'PATCH' && url.pathname.includes('/pods/')
        ? { status: 403, body: { kind: 'Status', code: 403, message } }
        : undefined;
  };
  const ready = async (): Promise<boolean> => (await w.readyz()).status === 200;

  test('is not ready, with verb and resource, until it may', async () => {
    w.label(undefined);
    w.putPod();
    await w.start();
    w.ztunnel('z1');
    await w.until('ready', ready);
    forbid();
    w.label('ambient');
    await w.until('not ready', async () => !(await ready()));
    const { text } = await w.readyz();
    expect(text).toContain('the agent may not patch pods');
    expect(text).toContain('cannot patch resource "pods"');
    expect(w.captured()).toBe(true);
    w.kube.intercept = undefined;
    await w.until('ready', ready);
    expect(w.annotation()).toBe('enabled');
  });

  test('is not ready any more for a pod that is gone', async () => {
    w.label('ambient');
    w.putPod();
    forbid();
    await w.start();
    w.ztunnel('z1');
    await w.until('refused', async () => (await w.readyz()).text.includes('may not patch pods'));
    w.kube.delete(podsPath, 'shop/cart');
    await w.until('ready', ready);
  });

  test('knows it before there is a pod to patch', async () => {
    w.label(undefined);
    w.kube.put(podsPath, {
      metadata: { name: 'agent', namespace: 'istio-system', uid: 'u-9' },
      spec: { nodeName: 'node-a', hostNetwork: true, containers: [] },
    });
    forbid();
    await w.start({ POD_NAME: 'agent' });
    w.ztunnel('z1');
    await w.until('connected', async () => !(await w.readyz()).text.includes('no ztunnel'));
    expect((await w.readyz()).text).toContain('the agent may not patch pods');
    w.kube.intercept = undefined;
    await w.until('ready', ready);
  });
});
