import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Kept } from '../../src/agent/keep.ts';
import { callAgent } from '../../src/plugin/agent-call.ts';
import { AgentWorld, answerOf, podsPath } from './agent-world.ts';
import { dial, rulesOf, serveIn } from './world.ts';

let w: AgentWorld;
let kept: Kept[];
/** As in a pod of the host's network: two agents want the same ones. */
const ports: Readonly<Record<string, string>> = { HEALTH_PORT: '18000', METRICS_PORT: '18014' };

beforeEach(async () => {
  w = await AgentWorld.make();
  kept = [];
});

afterEach(async () => {
  for (const one of kept.reverse()) await one.stop();
  await w.close();
});

async function keep(name: string, env = ports): Promise<Kept> {
  const one = await w.keep(name, env);
  kept.push(one);
  return one;
}

function putAgentPod(name: string, creationTimestamp: string): void {
  w.kube.put(podsPath, {
    metadata: { name, namespace: 'istio-system', uid: `uid-${name}`, creationTimestamp },
    spec: { nodeName: 'node-a', hostNetwork: true, containers: [] },
    status: { phase: 'Running', podIPs: [] },
  });
}

async function ready(): Promise<{ readonly status: number; readonly text: string }> {
  return answerOf({ port: 18000, path: '/readyz', method: 'GET' }).catch(() => ({
    status: 0,
    text: '',
  }));
}

const isReady = async (): Promise<boolean> => (await ready()).status === 200;
const said = (text: string): boolean => w.logs.some((line) => line.includes(text));

async function startFirst(env = ports): Promise<void> {
  putAgentPod('agent-1', '2026-01-01T00:00:00Z');
  putAgentPod('agent-2', '2026-01-01T00:00:05Z');
  w.label('ambient');
  w.putPod();
  await keep('agent-1', env);
  w.ztunnel('z1');
  await w.until('ready', isReady);
  expect(w.captured()).toBe(true);
}

describe('a node whose agent is replaced by one beside it', () => {
  test('keeps its pods captured and their connections, and no pod that starts is refused', async () => {
    w.echoes.push(serveIn(w.peer, 80, 'app'));
    await startFirst();
    const rules = rulesOf(w.pod);
    const open = dial(w.pod, w.peer.ip4, 80);
    expect(await open.line()).toBe('z15001');
    let over = false;
    const socket = join(w.root, 'pluginevent.sock');
    const starts = (async () => {
      const answers = new Map<string, number>();
      while (!over) {
        const answer = await callAgent(socket, '/cmdadd', w.starting());
        answers.set(answer, (answers.get(answer) ?? 0) + 1);
      }
      return answers;
    })();
    await keep('agent-2');
    w.ztunnel('z2');
    await w.until('ready', isReady);
    over = true;
    expect([...(await starts).keys()]).toEqual(['enrolled']);
    expect(rulesOf(w.pod)).toBe(rules);
    expect(await open.echo('on')).toBe('on');
    open.close();
    expect(said('gave the node to another agent; standing by')).toBe(true);
    const told = w.ztunnels[1]!.frames.slice(0, 2).map(({ kind }) => kind);
    expect(told).toEqual(['pod-added', 'pods-complete']);
    // The first is told to go now, and nothing changes.
    await kept.shift()!.stop();
    expect(await isReady()).toBe(true);
    expect(rulesOf(w.pod)).toBe(rules);
  });

  test('stays with the one that can work while the new one cannot', async () => {
    await startFirst();
    let allowed = false;
    const forbidden = { status: 403, body: { kind: 'Status', message: 'pods is forbidden' } };
    w.kube.intercept = ({ method, url }) =>
      !allowed && method === 'PATCH' && url.pathname.endsWith('/agent-2') ? forbidden : undefined;
    const second = keep('agent-2');
    await w.until('told', () => said('this agent cannot take its node over yet'));
    expect(await w.cmdadd()).toMatchObject({ status: 200 });
    expect(await isReady()).toBe(true);
    const path = '/readyz?pod=agent-2';
    expect(await answerOf({ port: 18000, path, method: 'GET' })).toEqual({
      status: 503,
      text: 'agent-1 has this node, and agent-2 has not taken it over; its log says why\n',
    });
    allowed = true;
    await second;
    w.ztunnel('z2');
    await w.until('ready', isReady);
  });

  test('stays with the one whose plugin the runtime calls, too', async () => {
    await startFirst();
    const second = keep('agent-2', { ...ports, CNI_CONF_DIR: join(w.root, 'bin') });
    await w.until('told', () => said('no CNI configuration in'));
    expect(await isReady()).toBe(true);
    writeFileSync(
      join(w.root, 'bin/10.conflist'),
      '{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"ptp"}]}',
    );
    await second;
  });

  test('is taken back by the first when the new one is gone, with what came meanwhile', async () => {
    await startFirst();
    const second = await keep('agent-2');
    w.ztunnel('z2');
    await w.until('ready', isReady);
    w.label(undefined);
    await w.until('let go', () => !w.captured());
    kept.pop();
    await second.stop();
    w.label('ambient');
    await w.until('taken back', () => said('taking the node back'));
    await w.until('there', async () => (await ready()).text.includes('no ztunnel'));
    w.ztunnel('z3');
    await w.until('captured', () => w.captured());
    await w.until('ready', isReady);
  });

  test('is not left by one that leaves on its stop, once another has it', async () => {
    putAgentPod('agent-1', '2026-01-01T00:00:00Z');
    putAgentPod('agent-2', '2026-01-01T00:00:05Z');
    w.label('ambient');
    w.putPod();
    const first = await keep('agent-1', { ...ports, REMOVE_ON_STOP: 'true' });
    w.ztunnel('z1');
    await w.until('captured', () => w.captured());
    await keep('agent-2');
    kept.shift();
    await first.stop();
    expect(w.captured()).toBe(true);
  });
});

describe('a node whose mesh leaves while its agent is replaced', () => {
  const sets = '/apis/apps/v1/daemonsets';
  const env = { ...ports, DAEMONSET_NAME: 'cni-redirect' };
  const chained = (): boolean =>
    readFileSync(join(w.root, 'net.d/10-main.conflist'), 'utf8').includes('ambit-cni');

  function leaving(leaves: boolean): void {
    const annotations = leaves ? { 'ambit.dev/leaving': 'true' } : {};
    w.kube.put(sets, {
      metadata: { name: 'cni-redirect', namespace: 'istio-system', annotations },
    });
  }

  function hasLeft(name: string): boolean {
    const pod = w.kube.get(podsPath, `istio-system/${name}`);
    const { annotations } = pod?.metadata as { annotations?: Record<string, string> };
    return annotations?.['ambit.dev/left'] === 'true';
  }

  async function left(): Promise<void> {
    leaving(false);
    await startFirst(env);
    leaving(true);
    await w.until('released', () => !w.captured() && w.annotation() === undefined);
    w.ztunnels[0]!.stopListening();
    await w.until('left', () => hasLeft('agent-1'));
  }

  test('is left by the new one, which says so instead of the one that stands by', async () => {
    await left();
    let seen = false;
    const look = setInterval(() => (seen ||= chained() || w.captured()), 5);
    await keep('agent-2', env);
    w.ztunnel('z2');
    expect(hasLeft('agent-1')).toBe(false);
    await w.until('left', () => hasLeft('agent-2'));
    clearInterval(look);
    expect(seen).toBe(false);
    leaving(false);
    await w.until('back', () => chained() && w.captured() && !hasLeft('agent-2'));
  });

  test('is not said to be left by one that begins again when the mesh stays', async () => {
    await left();
    w.kube.intercept = ({ method }) => (method === 'PATCH' ? { status: 500, body: {} } : undefined);
    await kept.pop()!.stop();
    expect(hasLeft('agent-1')).toBe(true);
    w.kube.intercept = undefined;
    leaving(false);
    await keep('agent-1', env);
    expect(hasLeft('agent-1')).toBe(false);
  });

  test('is given over within a moment when the API server does not answer', async () => {
    await left();
    w.kube.intercept = ({ method, url }) =>
      method === 'PATCH' && url.pathname.endsWith('/agent-1') ? 'hang' : undefined;
    const begun = performance.now();
    await keep('agent-2', env);
    expect(performance.now() - begun).toBeLessThan(8_000);
    w.kube.intercept = undefined;
  });
});

test('an agent is not ready from the moment at which it gives its node away', async () => {
  await startFirst({ ...ports, RELEASE_GRACE: '2s' });
  w.label(undefined);
  await w.until('being released', () => w.annotation() === undefined);
  const second = keep('agent-2');
  await w.until('told', async () => (await ready()).text.includes('another agent takes this node'));
  expect(await ready()).toEqual({ status: 503, text: 'another agent takes this node over\n' });
  await second;
});
