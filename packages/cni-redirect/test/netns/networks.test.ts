import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Port } from '@ambit/api';
import { chainInto, unchainAll } from '../../src/install/conf-dir.ts';
import { pluginType } from '../../src/install/conflist.ts';
import { defaultCapture, renderPodRules } from '../../src/rules/index.ts';
import { renderNodeRemoval, renderNodeRules } from '../../src/rules/node.ts';
import { runInPod, runOnNode } from '../../src/rules/run.ts';
import type { Network } from './networks.ts';
import { networks } from './networks.ts';
import type { Echo, TestPod } from './world.ts';
import { ask, serveIn } from './world.ts';

const proxyPorts = [15001, 15006, 15008];
const probePort = 8080 as Port;

describe.each(networks)('with a network like %s', (_, make) => {
  let network: Network;
  let server: TestPod;
  let client: TestPod;
  let proxies: Echo[];
  let apps: Echo[];

  beforeEach(() => {
    network = make();
    server = network.pod('net-server', 2);
    client = network.pod('net-client', 3);
    apps = [80, probePort].map((port) => serveIn(server, port, `app${port}`));
    proxies = [server, client].flatMap((pod) =>
      proxyPorts.map((port) => serveIn(pod, port, `${pod.name}:${port}`)),
    );
  });

  afterEach(async () => {
    for (const echo of [...apps, ...proxies]) echo.close();
    server.close();
    client.close();
    network.close();
    for (const family of ['ip', 'bridge', 'netdev'])
      await runOnNode(`add table ${family} netpol\ndelete table ${family} netpol\n`);
    await runOnNode(renderNodeRemoval());
  });

  async function capture(): Promise<void> {
    const rules = renderPodRules({ ...defaultCapture, probePorts: [probePort] });
    for (const pod of [server, client]) await runInPod(pod.netns, rules);
    await runOnNode(renderNodeRules([{ ip: server.ip4, port: probePort }]));
  }

  test('pods are captured, probed and closed, and see each other’s addresses', async () => {
    expect(await ask(client, server.ip4, 80)).toBe('app80');
    await capture();
    expect(await ask(client, server.ip4, 80)).toBe('net-client:15001');
    expect(await ask(undefined, server.ip4, 80)).toBe('net-server:15006');
    expect(await ask(undefined, server.ip4, probePort)).toBe('app8080');
    const marked = { mark: 0x539 };
    expect(await ask(client, server.ip4, 15008, marked)).toBe('net-server:15008');
    expect(await ask(client, server.ip4, 80, marked)).toBe('net-server:15006');
    const [, , hbone] = proxies;
    expect(hbone?.heard.map(({ from }) => from)).toEqual([client.ip4]);
    for (const proxy of proxies) proxy.close();
    expect(await ask(undefined, server.ip4, 80)).toBe('ECONNREFUSED');
    expect(await ask(client, server.ip4, 80)).toBe('ECONNREFUSED');
    expect(apps[0]?.heard).toHaveLength(1);
  });

  test('a NetworkPolicy that admits only 15008 lets the mesh and the kubelet in, and nobody else', async () => {
    await capture();
    await runOnNode(network.policy(server));
    const marked = { mark: 0x539 };
    expect(await ask(client, server.ip4, 80)).toBe('net-client:15001');
    expect(await ask(client, server.ip4, 15008, marked)).toBe('net-server:15008');
    expect(await ask(undefined, server.ip4, probePort)).toBe('app8080');
    expect(await ask(client, server.ip4, 80, marked)).toBe('silent');
    expect(await ask(client, server.ip4, 15006, marked)).toBe('silent');
    expect(apps[0]?.heard).toEqual([]);
  });

  test('its configuration is chained, last, and comes back as it was', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'networks-'));
    try {
      const { file, content } = network.conflist;
      writeFileSync(join(directory, file), JSON.stringify(content));
      const entry = { type: pluginType, agentSocket: '/run/agent.sock' };
      const first = content.plugins?.[0]?.type ?? content.type ?? '';
      writeFileSync(join(directory, first), '', { mode: 0o755 });
      const binDirs = { binDir: directory, binDirOnHost: '/opt/cni/bin' };
      const state = await chainInto(directory, entry, binDirs);
      if (!state.chained) throw new Error(state.why);
      const { plugins } = JSON.parse(readFileSync(state.file, 'utf8')) as {
        readonly plugins: readonly { readonly type: string }[];
      };
      expect(plugins.at(-1)?.type).toBe(pluginType);
      await unchainAll(directory);
      expect(JSON.parse(readFileSync(join(directory, file), 'utf8'))).toEqual(content);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
