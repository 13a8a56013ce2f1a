import { setTimeout as pause } from 'node:timers/promises';
import type { KubeClient } from '@ambit/controller';
import { crds, kubeStatus } from '@ambit/controller';

/** How much is put into the API. */
export interface Scale {
  readonly services: number;
  readonly podsOfService: number;
  readonly namespaces: number;
  readonly nodes: number;
}

const systemNamespace = 'istio-system';
const atOnce = 24;
const timeoutMs = 60_000;
const maxTries = 5;

/** Creates everything that a cluster of this size has, with addresses and states as its kubelets would write them. */
export async function fill(client: KubeClient, scale: Scale): Promise<void> {
  // The Gateway API's own are guarded; without them the controller finds no routes.
  for (const crd of crds().filter(({ spec }) => !spec.group.endsWith('.k8s.io')))
    await create(client, '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', crd);
  const namespaces = [systemNamespace, ...range(scale.namespaces).map(namespaceOf)];
  await each(namespaces, (name) =>
    create(client, '/api/v1/namespaces', {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name, labels: { 'istio.io/dataplane-mode': 'ambient' } },
    }),
  );
  await each(range(scale.nodes), (index) =>
    create(client, '/api/v1/nodes', {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: {
        name: nodeOf(index, scale),
        labels: {
          'topology.kubernetes.io/region': 'local',
          'topology.kubernetes.io/zone': `zone-${index % 3}`,
        },
      },
    }),
  );
  await create(client, `/api/v1/namespaces/${systemNamespace}/serviceaccounts`, {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: 'ztunnel', namespace: systemNamespace },
  });
  await each(range(scale.services), (index) => createService(client, index, scale));
}

/** `namespace/name` and node of a pod by its number. */
export function podOf(number: number, scale: Scale): { path: string; uid: string } {
  const service = Math.floor(number / scale.podsOfService);
  const namespace = namespaceOf(service % scale.namespaces);
  const name = `service-${service}-${number % scale.podsOfService}`;
  return {
    path: `/api/v1/namespaces/${namespace}/pods/${name}`,
    uid: `${namespace}/${name}`,
  };
}

export interface ZtunnelPod {
  readonly name: string;
  readonly node: string;
  readonly token: string;
}

/** The pod of a node's proxy, with the token that its kubelet would have projected. */
export async function createZtunnel(
  client: KubeClient,
  index: number,
  scale: Scale,
): Promise<ZtunnelPod> {
  const name = `ztunnel-${index}`;
  const node = nodeOf(index, scale);
  const pods = `/api/v1/namespaces/${systemNamespace}/pods`;
  const object = pod(name, systemNamespace, node, 'ztunnel', { app: 'ztunnel' });
  const made = (await create(client, pods, object)) as { metadata: { uid: string } } | undefined;
  await setStatus(client, `${pods}/${name}`, addressOf(100_000 + index));
  const { uid } = (
    made ?? ((await client.request({ path: `${pods}/${name}` })) as { metadata: { uid: string } })
  ).metadata;
  const review = (await client.request({
    method: 'POST',
    path: `/api/v1/namespaces/${systemNamespace}/serviceaccounts/ztunnel/token`,
    body: {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: {
        audiences: ['istio-ca'],
        expirationSeconds: 3600,
        boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name, uid },
      },
    },
  })) as { status: { token: string } };
  return { name, node, token: review.status.token };
}

async function createService(client: KubeClient, index: number, scale: Scale): Promise<void> {
  const namespace = namespaceOf(index % scale.namespaces);
  const name = `service-${index}`;
  const labels = { app: name };
  await create(client, `/api/v1/namespaces/${namespace}/services`, {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace, labels },
    spec: { selector: labels, ports: [{ name: 'http', port: 80, targetPort: 8080 }] },
  });
  const numbers = range(scale.podsOfService).map((of) => index * scale.podsOfService + of);
  for (const number of numbers) {
    const own = `${name}-${number % scale.podsOfService}`;
    const pods = `/api/v1/namespaces/${namespace}/pods`;
    await create(client, pods, pod(own, namespace, nodeOf(number, scale), 'default', labels));
    await setStatus(client, `${pods}/${own}`, addressOf(number));
  }
  await create(client, `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`, {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: `${name}-1`, namespace, labels: { 'kubernetes.io/service-name': name } },
    addressType: 'IPv4',
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
    endpoints: numbers.map((number) => ({
      addresses: [addressOf(number)],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: nodeOf(number, scale),
      targetRef: { kind: 'Pod', namespace, name: `${name}-${number % scale.podsOfService}` },
    })),
  });
}

/** Of about the size that pods of a cluster have. */
function pod(
  name: string,
  namespace: string,
  nodeName: string,
  serviceAccountName: string,
  labels: Readonly<Record<string, string>>,
): object {
  const container = {
    name: 'app',
    image: 'registry.example.com/team/app:1.0.0',
    env: range(12).map((index) => ({
      name: `SETTING_${index}`,
      value: `value of setting ${index}`,
    })),
    ports: [{ containerPort: 8080 }],
    resources: { requests: { cpu: '100m', memory: '128Mi' } },
    readinessProbe: { httpGet: { path: '/ready', port: 8080 } },
  };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace,
      labels: { ...labels, version: 'v1' },
      annotations: { 'ambient.istio.io/redirection': 'enabled' },
    },
    spec: { nodeName, serviceAccountName, containers: [container] },
  };
}

function setStatus(client: KubeClient, path: string, podIP: string): Promise<unknown> {
  const status = {
    phase: 'Running',
    podIP,
    podIPs: [{ ip: podIP }],
    conditions: [{ type: 'Ready', status: 'True', lastTransitionTime: '2026-01-01T00:00:00Z' }],
  };
  return patiently(() =>
    client.request({
      method: 'PATCH',
      path: `${path}/status`,
      contentType: 'application/merge-patch+json',
      body: { status },
      timeoutMs,
    }),
  );
}

/** What is there already stays, so that a broken-off run can go on. */
function create(client: KubeClient, path: string, body: object): Promise<unknown> {
  return patiently(async () => {
    try {
      return await client.request({ method: 'POST', path, body, timeoutMs });
    } catch (error) {
      if (kubeStatus(error) !== 409) throw error;
      return undefined;
    }
  });
}

/** An API server that is being filled may be too busy for a moment. */
async function patiently<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      const status = kubeStatus(error);
      if (attempt === maxTries || (status !== 0 && status !== 429 && status < 500)) throw error;
      await pause(1000 * attempt);
    }
  }
}

async function each<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  const queue = items.values();
  await Promise.all(
    range(atOnce).map(async () => {
      for (const item of queue) await work(item);
    }),
  );
}

export function range(length: number): readonly number[] {
  return Array.from({ length }, (_, index) => index);
}

function namespaceOf(index: number): string {
  return `team-${index}`;
}

function nodeOf(index: number, { nodes }: Scale): string {
  return `node-${index % nodes}`;
}

function addressOf(number: number): string {
  return `10.${10 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`;
}
