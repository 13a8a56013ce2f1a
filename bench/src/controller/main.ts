import { createWriteStream, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { createKubeClient } from '@ambit/controller';
import type { KubeClient } from '@ambit/controller';
import { KubeConfig } from '@kubernetes/client-node';
import { renderMarkdown } from '../table.ts';
import { startApi, stop } from './api.ts';
import type { Scale } from './objects.ts';
import { createZtunnel, fill, podOf, range } from './objects.ts';
import { connectProxies } from './proxies.ts';
import { startController } from './run.ts';

/** What is measured, against what it has to be. */
interface Figure {
  readonly what: string;
  readonly value: string;
  readonly goal: string;
  readonly good: boolean;
}

const nodes = 50;
const namespaces = 10;
const podsOfService = 10;
const restMs = 3_000;

const [root = process.cwd(), services = '1000', proxies = '20', changes = '100'] =
  process.argv.slice(2);
const scale: Scale = { services: Number(services), podsOfService, namespaces, nodes };
const pods = scale.services * podsOfService;

const folder = mkdtempSync(join(tmpdir(), 'ambit-bench-'));
const figures: Figure[] = [];
const api = await startApi(folder, process.env['KUBECONFIG']);
try {
  await measure();
} finally {
  await api.close();
  rmSync(folder, { recursive: true, force: true });
}
const table = figures.map(({ what, value, goal, good }) => [
  what,
  value,
  goal,
  good ? 'yes' : 'NO',
]);
process.stdout.write(
  `\n${renderMarkdown([['controller', 'measured', 'goal', 'met'], ...table])}\n`,
);
if (figures.some(({ good }) => !good)) process.exitCode = 1;

async function measure(): Promise<void> {
  const config = new KubeConfig();
  config.loadFromFile(api.kubeconfig);
  const client = createKubeClient(config);
  try {
    say(`${api.what}: ${pods} pods of ${scale.services} services are created`);
    const startedAt = performance.now();
    await fill(client, scale);
    const ztunnels = await Promise.all(
      range(Number(proxies)).map((index) => createZtunnel(client, index, scale)),
    );
    say(
      `created in ${((performance.now() - startedAt) / 1000).toFixed(0)} s; the controller starts`,
    );
    const log = createWriteStream(join(root, 'dist/bench-controller.log'));
    const controller = await startController(root, api.kubeconfig, (line) =>
      log.write(`${line}\n`),
    );
    try {
      const { coldMs, coldCpu, controlPort } = controller;
      const memory = () => controller.memory();
      const goal = { coldMs: 10_000, changeMs: 100, memory: 300 };
      add('process start to everything compiled', seconds(coldMs), '< 10 s', coldMs < goal.coldMs);
      add('CPU of that', `${coldCpu.toFixed(1)} s`, '–', true);
      await pause(restMs);
      const cold = memory();
      add('RSS once compiled', mebibytes(cold.now), '≤ 300 MiB', cold.now <= goal.memory);
      const connectedAt = performance.now();
      const connected = connectProxies(ztunnels, controlPort, await rootsOf(client), folder);
      await connected.complete;
      const all = performance.now() - connectedAt;
      add(`everything to ${proxies} proxies at once`, seconds(all), '–', true);
      const times = await change(client, connected);
      connected.close();
      const median = quantile(times, 0.5);
      const toAll = `one pod change to ${proxies} proxies`;
      add(`${toAll}, median`, milliseconds(median), '< 100 ms', median < goal.changeMs);
      add(`${toAll}, 99th percentile`, milliseconds(quantile(times, 0.99)), '–', true);
      await pause(restMs);
      const { now, peak } = memory();
      add('RSS at the end', mebibytes(now), '≤ 300 MiB', now <= goal.memory);
      add('RSS at its peak', mebibytes(peak), '≤ 300 MiB', peak <= goal.memory);
    } finally {
      await stop(controller.child);
      log.end();
    }
  } finally {
    client.close();
  }
}

/** From before the API is asked to change the pod until the last proxy has been told of it. */
async function change(
  client: KubeClient,
  connected: ReturnType<typeof connectProxies>,
): Promise<readonly number[]> {
  const times: number[] = [];
  for (const round of range(Number(changes))) {
    const { path, uid } = podOf((round * 97) % pods, scale);
    const told = connected.told(`Kubernetes//Pod/${uid}`);
    await client.request({
      method: 'PATCH',
      path,
      contentType: 'application/merge-patch+json',
      body: { metadata: { labels: { version: `round-${round}` } } },
    });
    times.push(await told);
    await pause(50);
  }
  return times;
}

async function rootsOf(client: KubeClient): Promise<string> {
  for (;;) {
    try {
      const path = '/api/v1/namespaces/istio-system/configmaps/istio-ca-root-cert';
      const found = (await client.request({ path })) as { data: Record<string, string> };
      return found.data['root-cert.pem'] ?? '';
    } catch {
      await pause(200);
    }
  }
}

function say(text: string): void {
  process.stdout.write(`· ${text}\n`);
}

function add(what: string, value: string, goal: string, good: boolean): void {
  figures.push({ what, value, goal, good });
  say(`${what}: ${value}`);
}

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((left, right) => left - right);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function milliseconds(ms: number): string {
  return `${ms.toFixed(1)} ms`;
}

function mebibytes(value: number): string {
  return `${value.toFixed(0)} MiB`;
}
