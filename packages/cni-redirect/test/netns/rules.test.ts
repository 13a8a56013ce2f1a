import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { Port } from '@ambit/api';
import { probeSourceIpv4, probeSourceIpv6, proxyMark } from '@ambit/api';
import { warmThreadpool } from '@ambit/core';
import type { PodCapture } from '../../src/rules/index.ts';
import {
  defaultCapture,
  renderClosedRules,
  renderPodRules,
  renderRemoval,
} from '../../src/rules/index.ts';
import { renderNodeRemoval, renderNodeRules } from '../../src/rules/node.ts';
import { runInPod, runOnNode } from '../../src/rules/run.ts';
import type { Echo, TestPod } from './world.ts';
import { ask, dial, ip, makePod, serveIn, sh } from './world.ts';

const capture: PodCapture = {
  ...defaultCapture,
  families: ['IPv4', 'IPv6'],
  probePorts: [8080 as Port],
};
let pod: TestPod;
let peer: TestPod;
const open: { close(): void }[] = [];

const keep = <T extends { close(): void }>(one: T): T => {
  open.push(one);
  return one;
};
const serve = (where: TestPod, port: number, name: string): Echo =>
  keep(serveIn(where, port, name));
const enrol = (): Promise<void> => runInPod(pod.netns, renderPodRules(capture));

beforeAll(async () => warmThreadpool());
beforeEach(() => {
  pod = makePod('rules-pod', 2);
  peer = makePod('rules-peer', 3);
});
afterEach(() => {
  for (const one of open.splice(0)) one.close();
  pod.close();
  peer.close();
});
afterAll(async () => {
  await runOnNode(renderNodeRemoval());
});

describe.each(['IPv4', 'IPv6'] as const)('capture of %s', (family) => {
  const of = (one: TestPod) => (family === 'IPv4' ? one.ip4 : one.ip6);

  test('outbound connections reach 15001 with the destination they were for', async () => {
    const proxy = serve(pod, 15001, 'outbound');
    serve(peer, 80, 'peer');
    await enrol();
    expect(await ask(pod, of(peer), 80)).toBe('outbound');
    expect(proxy.heard[0]?.originally).toBe(`${of(peer)} 80`);
  });

  test('inbound connections reach 15006, and 15008 is reached as it is', async () => {
    const proxy = serve(pod, 15006, 'inbound');
    serve(pod, 15008, 'hbone');
    const app = serve(pod, 80, 'app');
    await enrol();
    expect(await ask(peer, of(pod), 80)).toBe('inbound');
    expect(await ask(peer, of(pod), 15008)).toBe('hbone');
    expect(proxy.heard).toEqual([{ from: of(peer), originally: `${of(pod)} 80` }]);
    expect(app.heard).toEqual([]);
  });

  test('without listeners nothing is delivered and nothing leaves', async () => {
    const app = serve(pod, 80, 'app');
    const outside = serve(peer, 80, 'peer');
    await enrol();
    expect(['ECONNREFUSED', 'silent']).toContain(await ask(peer, of(pod), 80));
    expect(['ECONNREFUSED', 'silent']).toContain(await ask(pod, of(peer), 80));
    expect([...app.heard, ...outside.heard]).toEqual([]);
  });

  test('the pod reaches itself and its loopback without the proxy', async () => {
    serve(pod, 80, 'app');
    serve(pod, 15001, 'outbound');
    serve(pod, 15006, 'inbound');
    await enrol();
    expect(await ask(pod, of(pod), 80)).toBe('app');
    expect(await ask(pod, ip(family === 'IPv4' ? '127.0.0.1' : '::1'), 80)).toBe('app');
  });

  test('the proxy goes out unredirected, and in with the address of the client', async () => {
    serve(pod, 15001, 'outbound');
    serve(peer, 80, 'peer');
    const app = serve(pod, 80, 'app');
    await enrol();
    expect(await ask(pod, of(peer), 80, { mark: proxyMark })).toBe('peer');
    const client = ip(family === 'IPv4' ? '192.0.2.7' : '2001:db8::7');
    expect(await ask(pod, of(pod), 80, { mark: proxyMark, from: client })).toBe('app');
    expect(app.heard[0]?.from).toBe(client);
  });

  test('open connections live through enrolment, applying again, and removal in two phases', async () => {
    serve(pod, 80, 'app');
    serve(pod, 15001, 'outbound');
    serve(pod, 15006, 'inbound');
    serve(peer, 80, 'peer');
    const before = [keep(dial(peer, of(pod), 80)), keep(dial(pod, of(peer), 80))];
    expect(await Promise.all(before.map((one) => one.line()))).toEqual(['app', 'peer']);
    await enrol();
    expect(await Promise.all(before.map((one) => one.echo('1')))).toEqual(['1', '1']);
    const during = [keep(dial(peer, of(pod), 80)), keep(dial(pod, of(peer), 80))];
    expect(await Promise.all(during.map((one) => one.line()))).toEqual(['inbound', 'outbound']);
    for (let round = 0; round < 3; round += 1) await enrol();
    const all = [...before, ...during];
    expect(await Promise.all(all.map((one) => one.echo('2')))).toEqual(['2', '2', '2', '2']);
    await runInPod(pod.netns, renderRemoval('drain'));
    expect(await Promise.all(all.map((one) => one.echo('3')))).toEqual(['3', '3', '3', '3']);
    expect(await ask(peer, of(pod), 80)).toBe('app');
    expect(await ask(pod, of(peer), 80)).toBe('peer');
    for (const one of during) one.close();
    await runInPod(pod.netns, renderRemoval('delete'));
    expect(await Promise.all(before.map((one) => one.echo('4')))).toEqual(['4', '4']);
    expect(
      sh(`ip netns exec ${pod.name} nft list tables; ip -n ${pod.name} rule show priority 100`),
    ).toBe('');
  });

  test('a mark from outside does not go past 15006', async () => {
    serve(pod, 15006, 'inbound');
    const app = serve(pod, 80, 'app');
    await enrol();
    sh(`ip netns exec ${pod.name} nft -f - <<'R'
      table inet forge { chain c { type filter hook prerouting priority -400; iifname eth0 meta mark set 0x539; }; }
R
`);
    expect(await ask(peer, of(pod), 80)).toBe('inbound');
    expect(app.heard).toEqual([]);
  });

  test('a closed pod begins no connection either way', async () => {
    const app = serve(pod, 80, 'app');
    const hbone = serve(pod, 15008, 'hbone');
    const outside = serve(peer, 80, 'peer');
    await runInPod(pod.netns, renderClosedRules(capture));
    const asked = [ask(peer, of(pod), 80), ask(peer, of(pod), 15008), ask(pod, of(peer), 80)];
    expect(await Promise.all(asked)).toEqual(['silent', 'silent', 'silent']);
    expect([...app.heard, ...hbone.heard, ...outside.heard]).toEqual([]);
  });
});

describe.each(['IPv4', 'IPv6'] as const)('probes of the kubelet by %s', (family) => {
  const of = (one: TestPod) => (family === 'IPv4' ? one.ip4 : one.ip6);
  const probeSource = ip(family === 'IPv4' ? probeSourceIpv4 : probeSourceIpv6);

  test('reach the application on declared ports only', async () => {
    const app = serve(pod, 8080, 'app');
    serve(pod, 80, 'other');
    serve(pod, 15006, 'inbound');
    await runOnNode(renderNodeRules([{ ip: of(pod), port: 8080 as Port }]));
    await enrol();
    expect(await ask(undefined, of(pod), 8080)).toBe('app');
    expect(app.heard[0]?.from).toBe(probeSource);
    expect(await ask(undefined, of(pod), 80)).toBe('inbound');
    expect(await ask(peer, of(pod), 8080)).toBe('inbound');
  });

  test('with a forged source are dropped on the node', async () => {
    const app = serve(pod, 8080, 'app');
    serve(pod, 15006, 'inbound');
    await enrol();
    await runOnNode(renderNodeRules([]));
    expect(await ask(peer, of(pod), 8080, { from: probeSource })).toBe('silent');
    expect(app.heard).toEqual([]);
    expect(sh('nft list chain inet ambit-node prerouting')).toMatch(
      new RegExp(`saddr ${probeSource} counter packets [1-9]`),
    );
  });

  test('with a forged source are dropped in the pod on every other port', async () => {
    const app = serve(pod, 80, 'app');
    serve(pod, 15006, 'inbound');
    serve(pod, 15008, 'hbone');
    await runOnNode(renderNodeRemoval());
    await enrol();
    expect(await ask(peer, of(pod), 80, { from: probeSource })).toBe('silent');
    expect(await ask(peer, of(pod), 15008, { from: probeSource })).toBe('silent');
    expect(app.heard).toEqual([]);
  });
});

test('applying again and again under load loses no connection', async () => {
  serve(pod, 15001, 'outbound');
  serve(peer, 80, 'peer');
  await enrol();
  let running = true;
  const answers = new Map<string, number>();
  const load = (async () => {
    while (running) {
      const answer = await ask(pod, peer.ip4, 80);
      answers.set(answer, (answers.get(answer) ?? 0) + 1);
    }
  })();
  for (let round = 0; round < 10; round += 1) await enrol();
  running = false;
  await load;
  expect([...answers.keys()]).toEqual(['outbound']);
  expect(answers.get('outbound')).toBeGreaterThan(20);
});
