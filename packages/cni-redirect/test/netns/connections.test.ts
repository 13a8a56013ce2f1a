import { afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { proxyMark } from '@ambit/api';
import { createLogger, resetOnClose, warmThreadpool } from '@ambit/core';
import { ConnectionTracking } from '../../src/agent/connection-tracking.ts';
import type { Removed } from '../../src/agent/release.ts';
import { deleteRules } from '../../src/agent/release.ts';
import type { PodCapture } from '../../src/rules/index.ts';
import { defaultCapture, renderPodRules, renderRemoval } from '../../src/rules/index.ts';
import { runInPod } from '../../src/rules/run.ts';
import type { Dialled, Echo, TestPod } from './world.ts';
import { ask, dial, makePod, rulesOf, serveIn, sh } from './world.ts';

const logger = createLogger({ scope: 'test', level: 'warn', format: 'text' });
const tracking = new ConnectionTracking(logger);
let pod: TestPod;
let peer: TestPod;
let proxy: Echo | undefined;
const open: { close(): void }[] = [];

const keep = <T extends { close(): void }>(one: T): T => {
  open.push(one);
  return one;
};

beforeAll(async () => warmThreadpool());
beforeEach(() => {
  pod = makePod('open-pod', 2);
  peer = makePod('open-peer', 3);
});
afterEach(() => {
  for (const one of open.splice(0)) one.close();
  pod.close();
  peer.close();
});

async function join(how: Partial<PodCapture> = {}): Promise<void> {
  proxy?.close();
  proxy = keep(serveIn(pod, 15006, 'inbound'));
  const capture: PodCapture = { ...defaultCapture, families: ['IPv4', 'IPv6'], ...how };
  await runInPod(pod.netns, renderPodRules(capture));
  await tracking.makeKnown(pod.netns, [pod.ip4, pod.ip6]);
}

async function leave(): Promise<void> {
  await runInPod(pod.netns, renderRemoval('drain'));
  proxy?.close();
}

function remove(how: { withinMs?: number; force?: boolean } = {}): Promise<Removed> {
  return deleteRules(pod.netns, { tracking, withinMs: 0, force: false, ...how });
}

describe.each(['IPv4', 'IPv6'] as const)('connections of a pod, by %s:', (family) => {
  const of = (one: TestPod) => (family === 'IPv4' ? one.ip4 : one.ip6);
  let app: Echo;

  beforeEach(() => {
    app = keep(serveIn(pod, 80, 'app'));
  });

  /** To the application, past the proxy where there is none in between; from a port of its own, or from this one. */
  async function connect(fromPort?: number): Promise<Dialled> {
    const direct = keep(dial(peer, of(pod), 80, { from: of(peer), fromPort }));
    expect(await direct.line()).toBe('app');
    return direct;
  }

  /** The port of something that the proxy has delivered for the client. */
  async function deliver(): Promise<number | undefined> {
    const delivered = dial(pod, of(pod), 80, { mark: proxyMark, from: of(peer) });
    expect(await delivered.line()).toBe('app');
    const { localPort } = delivered.socket;
    delivered.close();
    return localPort;
  }

  /** A connection with a translated port, to a pod that was in the mesh and has left it. */
  async function leaveAndConnect(): Promise<Dialled> {
    await join();
    const port = await deliver();
    await leave();
    return connect(port);
  }

  const again = (fromPort: number | undefined): Promise<string> =>
    ask(peer, of(pod), 80, { from: of(peer), fromPort });

  /** It ends without a word to the pod's rules, or to nobody. */
  function reset(one: Dialled): void {
    resetOnClose(one.socket);
    one.close();
  }

  test('a pod that has left keeps its rules while one has a translated port, and not longer', async () => {
    const direct = await leaveAndConnect();
    // However often it is let go: an agent may begin anew.
    await leave();
    expect(await remove()).toBe('not-yet');
    const removed = remove({ withinMs: 5_000 });
    direct.close();
    expect(await removed).toBe('deleted');
    expect(rulesOf(pod)).toBe('');
  });

  test('one that cannot wait so long keeps a table that takes nothing', async () => {
    const direct = await leaveAndConnect();
    expect(await remove({ force: true })).toBe('left');
    expect(rulesOf(pod)).toContain('table inet ambit');
    expect(rulesOf(pod)).not.toMatch(/redirect|drop|reject/);
    expect(sh(`ip -n ${pod.name} rule show priority 100`)).toBe('');
    expect(await direct.echo('still here')).toBe('still here');
  });

  test('also one that was back in the mesh in between', async () => {
    const direct = await leaveAndConnect();
    await join();
    await leave();
    expect(await remove()).toBe('not-yet');
    expect(await direct.echo('still here')).toBe('still here');
  });

  test('also one of which inbound connections were not captured', async () => {
    await join({ captureInbound: false });
    const port = await deliver();
    const direct = await connect(port);
    await leave();
    expect(await remove()).toBe('not-yet');
    expect(await direct.echo('still here')).toBe('still here');
  });

  test('nothing waits for those whose ports are their own', async () => {
    const translated = await leaveAndConnect();
    expect(await remove()).toBe('not-yet');
    translated.close();
    const direct = await connect();
    expect(await remove({ withinMs: 3_000 })).toBe('deleted');
    expect(await direct.echo('still here')).toBe('still here');
  });

  test.each([
    ['silent', false],
    ['in use', true],
  ])('what ended while the pod was outside the mesh holds no port (%s)', async (_, speaks) => {
    const direct = await connect();
    const { localPort } = direct.socket;
    await join();
    if (speaks) expect(await direct.echo('on')).toBe('on');
    await leave();
    expect(await remove()).toBe('deleted');
    reset(direct);
    await join();
    expect(await again(localPort)).toBe('inbound');
  });

  test('what is half closed when the pod joins goes on, and holds no port when it ends', async () => {
    const direct = await connect();
    const { localPort } = direct.socket;
    app.halfClose();
    await new Promise((resolve) => direct.socket.once('end', resolve));
    await join();
    direct.socket.end();
    expect(await direct.line()).toBe('closed');
    expect(await again(localPort)).toBe('inbound');
  });

  test('one that is being accepted while the pod joins is not refused', async () => {
    sh(`ip netns exec ${peer.name} nft -f - <<'R'
      table inet slow { chain c { type filter hook input priority 0; tcp flags & (syn | ack) == (syn | ack) drop; }; }
R
`);
    await join({ captureInbound: false });
    const late = keep(dial(peer, of(pod), 80));
    await new Promise((resolve) => setTimeout(resolve, 200));
    await join();
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    sh(`ip netns exec ${peer.name} nft delete table inet slow`);
    expect(['app', 'inbound']).toContain(await late.line(8_000));
  });

  test('a client that comes back from the port of a connection that it lost is told so', async () => {
    const lost = await connect();
    const { localPort } = lost.socket;
    await join();
    sh(`ip netns exec ${peer.name} nft -f - <<'R'
      table inet lost { chain c { type filter hook output priority 0; tcp flags & (rst | fin) != 0 drop; }; }
R
`);
    reset(lost);
    expect(await again(localPort)).toBe('ECONNREFUSED');
    expect(app.heard).toHaveLength(1);
  });
});

test('connections that come and go while a pod joins are all answered', async () => {
  keep(serveIn(pod, 80, 'app'));
  const answers = new Map<string, number>();
  let joined = false;
  async function call(): Promise<void> {
    while (!joined) {
      const one = dial(peer, pod.ip4, 80);
      one.socket.on('end', () => one.socket.end());
      const answer = await one.line(5_000);
      answers.set(answer, (answers.get(answer) ?? 0) + 1);
      one.socket.end();
      expect(await one.line(5_000)).toBe('closed');
    }
  }
  const callers = [call(), call(), call()];
  await new Promise((resolve) => setTimeout(resolve, 300));
  await join();
  await new Promise((resolve) => setTimeout(resolve, 300));
  joined = true;
  await Promise.all(callers);
  expect([...answers.keys()].sort()).toEqual(['app', 'inbound']);
  expect(answers.get('inbound')).toBeGreaterThan(20);
});
