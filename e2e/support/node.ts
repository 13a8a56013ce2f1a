import type { EnrolledPod } from '@ambit/api';
import { parseTrustDomain } from '@ambit/api';
import type { Metrics } from '@ambit/core';
import { createLogger, createMetrics } from '@ambit/core';
import type { FakeAgent, FakeController } from '@ambit/testkit';
import { startFakeAgent } from '@ambit/testkit';
import type { Ztunnel, ZtunnelConfig } from '@ambit/ztunnel';
import { startZtunnel } from '@ambit/ztunnel';
import type { Pod } from './pods.ts';
import { capture, release, socketAddress } from './pods.ts';

/** A line of the access log, by its keys. */
export type AccessLine = Readonly<Record<string, unknown>>;

/** A node: a whole ztunnel, its agent, and what it logs and counts. */
export interface MeshNode {
  readonly name: string;
  readonly ztunnel: Ztunnel;
  readonly agent: FakeAgent;
  readonly access: AccessLine[];
  readonly log: string[];
  readonly config: ZtunnelConfig;
  metrics(): Promise<string>;
  /** Takes a pod in: listeners first, then rules. */
  enrol(pod: Pod, serviceAccount?: string): Promise<void>;
  release(pod: Pod): Promise<void>;
  stop(): Promise<void>;
}

export async function startNode(
  name: string,
  controller: FakeController,
  settings: Partial<ZtunnelConfig> = {},
): Promise<MeshNode> {
  const trustDomain = parseTrustDomain('cluster.local');
  if (!trustDomain.ok) throw new TypeError(trustDomain.error.message);
  const agent = await startFakeAgent();
  const config: ZtunnelConfig = {
    node: name,
    instance: `ztunnel-${name}`,
    clusterId: 'Kubernetes',
    trustDomain: trustDomain.value,
    controller: { host: '127.0.0.1', port: socketAddress('127.0.0.1', controller.port).port },
    tokenFile: controller.tokenFile,
    rootsFile: controller.rootsFile,
    agentSocket: agent.path,
    adminPort: 0,
    metricsPort: 0,
    readinessPort: 0,
    logLevel: 'debug',
    logFormat: 'json',
    drainMs: 1_000,
    connectTimeoutMs: 2_000,
    waitMs: 2_000,
    maxConnectionsPerPod: 20_000,
    releaseLingerMs: 1_000,
    stateFile: undefined,
    ...settings,
  };
  const access: AccessLine[] = [];
  const log: string[] = [];
  const metrics: Metrics = createMetrics({ processFigures: false });
  const ztunnel = await startZtunnel(config, {
    logger: createLogger({
      scope: 'ztunnel',
      level: 'debug',
      format: 'json',
      sink: { write: (line) => void log.push(line) },
    }),
    access: createLogger({
      scope: 'access',
      level: 'debug',
      format: 'json',
      sink: { write: (line) => void access.push(JSON.parse(line) as AccessLine) },
    }),
    metrics,
  });
  await agent.ready();
  return {
    name,
    ztunnel,
    agent,
    access,
    log,
    config,
    metrics: () => metrics.render(),
    async enrol(pod, serviceAccount = pod.name) {
      await agent.add(enrolled(pod, serviceAccount));
      capture(pod);
    },
    async release(pod) {
      release(pod);
      await agent.remove(`uid-${pod.name}`, 'released');
    },
    async stop() {
      await ztunnel.stop();
      await agent.close();
    },
  };
}

export function enrolled(pod: Pod, serviceAccount: string): EnrolledPod {
  return {
    uid: `uid-${pod.name}`,
    name: pod.name,
    namespace: 'test',
    serviceAccount,
    addresses: [pod.ip4, pod.ip6],
    netns: { path: pod.path, inode: pod.netns.inode },
  };
}

/** Waits until something holds; fails with what was there when it does not in time. */
export async function eventually<T>(
  look: () => T | Promise<T>,
  holds: (value: T) => boolean,
  timeoutMs = 5_000,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const value = await look();
    if (holds(value)) return value;
    if (performance.now() > deadline) {
      throw new Error(`not so after ${timeoutMs} ms: ${JSON.stringify(value)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The values of a metric's series whose labels have these values. */
export function samples(
  text: string,
  name: string,
  labels: Readonly<Record<string, string>>,
): number[] {
  const wanted = Object.entries(labels).map(([key, value]) => `${key}="${value}"`);
  return text
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) && wanted.every((part) => line.includes(part)))
    .map((line) => Number(line.slice(line.lastIndexOf(' ') + 1)));
}
