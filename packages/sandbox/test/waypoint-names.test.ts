import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { TestApi } from './support/api-server.ts';
import type { ControllerProcess } from './support/controller-process.ts';
import { startControllerProcess } from './support/controller-process.ts';
import { startMeshApi } from './support/controller.ts';
import type { Kubectl } from './support/kubectl.ts';

/** Gateways whose names others bear already: a controller as a process, on the sandbox's API with its own rights. */
let running: TestApi;
let kubectl: Kubectl;
let controller: ControllerProcess;
const folder = mkdtempSync(join(tmpdir(), 'ambit-names-'));
const services = { group: '', resource: 'services' };
const accounts = { group: '', resource: 'serviceaccounts' };
const deployments = { group: 'apps', resource: 'deployments' };
const gateways = { group: 'gateway.networking.k8s.io', resource: 'gateways' };

interface Conditions {
  readonly status?: {
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly message: string;
    }[];
  };
}

async function until(what: () => boolean, why: string, timeoutMs = 60_000): Promise<void> {
  const started = performance.now();
  while (!what()) {
    if (performance.now() - started > timeoutMs) throw new Error(`timed out: ${why}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function told(name: string, type: string): string {
  const gateway = running.api.store.get(gateways, 'shop', name) as Conditions | undefined;
  const found = gateway?.status?.conditions?.find((one) => one.type === type);
  return `${found?.status ?? ''} ${found?.message ?? ''}`;
}

/** Whether it is in an object, whose fields' owners name fields otherwise. */
const shows = (object: object | undefined, what: string): boolean =>
  JSON.stringify(object ?? {}).includes(what);

const object = (kind: string, apiVersion: string, name: string, spec?: object): string =>
  JSON.stringify({ apiVersion, kind, metadata: { name, namespace: 'shop' }, spec });

const gateway = (name: string): string =>
  object('Gateway', 'gateway.networking.k8s.io/v1', name, {
    gatewayClassName: 'istio-waypoint',
    listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
  });

const apply = (...objects: string[]): Promise<unknown> =>
  kubectl.out(['apply', '-f', '-'], objects.join('\n---\n'));

beforeAll(async () => {
  ({ running, kubectl } = await startMeshApi());
  controller = startControllerProcess(running, folder, 'one');
}, 150_000);

afterAll(async () => {
  await controller.stop();
  await running.api.close();
  kubectl.close();
  rmSync(folder, { recursive: true });
  expect(running.errors).toEqual([]);
}, 150_000);

test('a Service of the name is left as it is, also when the Gateway goes, and nothing else is made', async () => {
  const spec = { selector: { app: 'reviews' }, ports: [{ name: 'http', port: 80 }] };
  await apply(object('Service', 'v1', 'reviews', spec));
  const before = running.api.store.get(services, 'shop', 'reviews');
  await apply(gateway('reviews'));
  await until(() => told('reviews', 'Programmed').startsWith('False'), 'a word on the Gateway');
  expect(told('reviews', 'Programmed')).toContain('Service shop/reviews is there and not of this');
  expect(told('reviews', 'Accepted')).toMatch(/^False .*give the Gateway another name, or remove/);
  await kubectl.out(['delete', 'gateway/reviews', '-n', 'shop']);
  expect(running.api.store.get(services, 'shop', 'reviews')?.metadata.resourceVersion).toBe(
    before?.metadata.resourceVersion,
  );
  for (const each of [accounts, deployments])
    expect(running.api.store.get(each, 'shop', 'reviews')).toBeUndefined();
}, 150_000);

test('a ServiceAccount or a Deployment of the name is left too, and the Gateway is deployed once that is gone', async () => {
  await apply(object('ServiceAccount', 'v1', 'mine'), gateway('mine'));
  const template = {
    metadata: { labels: { app: 'x' } },
    spec: { containers: [{ name: 'x', image: 'x' }] },
  };
  const spec = { selector: { matchLabels: { app: 'x' } }, template };
  await apply(object('Deployment', 'apps/v1', 'yours', spec), gateway('yours'));
  await until(() => told('mine', 'Accepted').includes('ServiceAccount shop/mine'), 'the account');
  await until(() => told('yours', 'Accepted').includes('Deployment shop/yours'), 'the Deployment');
  expect(running.api.store.get(accounts, 'shop', 'mine')?.metadata.ownerReferences).toBeUndefined();
  await kubectl.out(['delete', 'serviceaccount/mine', 'deployment/yours', '-n', 'shop']);
  for (const name of ['mine', 'yours']) {
    await until(() => told(name, 'Accepted').startsWith('True'), `${name} is deployed`);
    const uid = running.api.store.get(gateways, 'shop', name)?.metadata.uid;
    for (const each of [accounts, deployments, services])
      expect(running.api.store.get(each, 'shop', name)?.metadata.ownerReferences?.[0]?.uid).toBe(
        uid,
      );
  }
}, 150_000);

test('a ServiceAccount that is taken away is made again, and the proxies with it, whose tokens are of the former', async () => {
  const template = (): Record<string, string> =>
    (
      running.api.store.get(deployments, 'shop', 'mine') as unknown as {
        spec: { template: { metadata: { annotations: Record<string, string> } } };
      }
    ).spec.template.metadata.annotations;
  const before = template();
  expect(before).not.toHaveProperty(['ambit.dev/service-account']);
  await kubectl.out(['delete', 'serviceaccount/mine', '-n', 'shop']);
  await until(() => running.api.store.get(accounts, 'shop', 'mine') !== undefined, 'the account');
  const uid = (): string | undefined =>
    running.api.store.get(accounts, 'shop', 'mine')?.metadata.uid;
  await until(() => template()['ambit.dev/service-account'] === uid(), 'other pods');
  expect(template()).toEqual({ ...before, 'ambit.dev/service-account': uid() });
  // It stays, lest the pods change once more.
  await apply(
    object('Gateway', 'gateway.networking.k8s.io/v1', 'mine', {
      gatewayClassName: 'istio-waypoint',
      infrastructure: { annotations: { round: 'two' } },
      listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
    }),
  );
  await until(() => template()['round'] === 'two', 'the change');
  expect(template()['ambit.dev/service-account']).toBe(uid());
}, 150_000);

test('what a ConfigMap adds to a Service or ServiceAccount at their creation goes when it says so no more', async () => {
  const parameters = (service: string, serviceAccount: string): string =>
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'how', namespace: 'shop' },
      data: { service, serviceAccount },
    });
  const ports = (): readonly number[] =>
    (
      running.api.store.get(services, 'shop', 'custom') as
        { spec?: { ports?: { port: number }[] } } | undefined
    )?.spec?.ports?.map(({ port }) => port) ?? [];
  const account = (): object | undefined => running.api.store.get(accounts, 'shop', 'custom');
  await apply(
    parameters('spec: {ports: [{name: extra, port: 9000}]}', 'imagePullSecrets: [{name: s}]'),
    object('Gateway', 'gateway.networking.k8s.io/v1', 'custom', {
      gatewayClassName: 'istio-waypoint',
      infrastructure: { parametersRef: { group: '', kind: 'ConfigMap', name: 'how' } },
      listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
    }),
  );
  await until(() => ports().includes(9000), 'the port');
  await until(() => shows(account(), '"imagePullSecrets":'), 'the pull Secret');
  await apply(parameters('{}', '{}'));
  await until(() => !ports().includes(9000), 'the port is gone');
  expect(ports().toSorted()).toEqual([15008, 15021]);
  await until(() => !shows(account(), '"imagePullSecrets":'), 'the Secret is gone');
}, 150_000);

test('a pod that still runs under an earlier ServiceAccount of the name is not taken for the waypoint', async () => {
  const pod = object('Pod', 'v1', 'app', {
    serviceAccountName: 'late',
    containers: [{ name: 'x', image: 'x' }],
  });
  await apply(object('ServiceAccount', 'v1', 'late'));
  await apply(pod);
  await kubectl.out(['delete', 'serviceaccount/late', '-n', 'shop']);
  await apply(gateway('late'));
  await until(() => told('late', 'Programmed').includes('Pod shop/app'), 'a word on the Gateway');
  expect(told('late', 'Programmed')).toMatch(/^False Pod shop\/app .*earlier ServiceAccount/);
  await kubectl.out(['delete', 'pod/app', '-n', 'shop', '--force', '--grace-period=0']);
  await until(() => !told('late', 'Programmed').includes('Pod shop/app'), 'it is its own');
}, 150_000);
