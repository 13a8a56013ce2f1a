import { generateKeyPairSync, randomUUID } from 'node:crypto';

import type { TrustDomain } from '@ambit/api';
import { parseTrustDomain } from '@ambit/api';
import type { FakeKube, FakeObject } from '@ambit/testkit';
import { KubeConfig } from '@kubernetes/client-node';

import type { ControllerConfig } from '../src/config.ts';
import type { KubeClient } from '../src/kube/client.ts';
import { createKubeClient } from '../src/kube/client.ts';
import type { ReflectorTimings } from '../src/kube/reflector.ts';
import type { Log } from '../src/log.ts';

export function trustDomain(text = 'cluster.local'): TrustDomain {
  const parsed = parseTrustDomain(text);
  if (!parsed.ok) throw new TypeError(parsed.error.message);
  return parsed.value;
}

export const fastTimings: ReflectorTimings = {
  watchMinMs: 20_000,
  watchMaxMs: 20_000,
  stallMs: 300,
  resyncMs: 3_600_000,
  backoffMinMs: 5,
  backoffMaxMs: 40,
  requestTimeoutMs: 1_000,
};

export function testConfig(changes: Partial<ControllerConfig> = {}): ControllerConfig {
  return {
    kubeconfig: undefined,
    rootNamespace: 'istio-system',
    podName: 'controller',
    revision: 'default',
    defaultRevision: 'default',
    clusterId: 'Kubernetes',
    clusterDomain: 'cluster.local',
    trustDomain: trustDomain(),
    trustDomainAliases: [],
    host: '127.0.0.1',
    controlPort: 0,
    metricsPort: 0,
    webhookPort: 0,
    certificateTtlMs: 24 * 60 * 60_000,
    trustedNodeAccounts: new Set(['istio-system/ztunnel']),
    debounceQuietMs: 5,
    debounceMaxMs: 100,
    servingNames: [],
    waypointImage: 'ambit/waypoint',
    waypointImagePullPolicy: undefined,
    waypointImagePullSecrets: [],
    waypointResources: {},
    jwksAllowedCidrs: [],
    advertisedAddress: 'ambit-controller.istio-system.svc:15012',
    logLevel: 'silent',
    logFormat: 'json',
    ...changes,
  };
}

export function clientOf(fake: FakeKube): KubeClient {
  const config = new KubeConfig();
  config.loadFromClusterAndUser(
    { name: 'fake', server: fake.url, skipTLSVerify: true },
    { name: 'test', token: 'test' },
  );
  return createKubeClient(config);
}

/** Keeps what was logged, for tests that look at it. */
export function memoryLog(): Log & {
  readonly lines: { level: string; fields: object; message: string }[];
} {
  const lines: { level: string; fields: object; message: string }[] = [];
  const at = (level: string) => (fields: object, message: string) => {
    lines.push({ level, fields, message });
  };
  return { lines, debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

export async function until(what: () => boolean, why: string, timeoutMs = 5_000): Promise<void> {
  const end = Date.now() + timeoutMs;
  while (!what()) {
    if (Date.now() > end) throw new Error(`timed out: ${why}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export interface PodFacts {
  readonly name: string;
  readonly namespace?: string;
  readonly ip?: string;
  readonly node?: string;
  readonly serviceAccount?: string;
  readonly uid?: string;
  readonly phase?: string;
  readonly labels?: Record<string, string>;
  readonly captured?: boolean;
}

export function aPod(facts: PodFacts): FakeObject {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: facts.name,
      namespace: facts.namespace ?? 'shop',
      uid: facts.uid ?? randomUUID(),
      labels: facts.labels ?? {},
      annotations: facts.captured === true ? { 'ambient.istio.io/redirection': 'enabled' } : {},
    },
    spec: {
      serviceAccountName: facts.serviceAccount ?? 'default',
      nodeName: facts.node ?? 'node-a',
    },
    status: {
      phase: facts.phase ?? 'Running',
      ...(facts.ip === undefined ? {} : { podIP: facts.ip, podIPs: [{ ip: facts.ip }] }),
    },
  };
}

export function aToken(claims: object = {}): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'none' })}.${part(claims)}.c2lnbmF0dXJl`;
}

export function newKeyPem(): string {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({
    type: 'pkcs8',
    format: 'pem',
  });
}
