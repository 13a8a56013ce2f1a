import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { KubeObject } from '../src/apiserver/index.ts';
import type { TestApi } from './support/api-server.ts';
import type { ControllerProcess } from './support/controller-process.ts';
import { startControllerProcess } from './support/controller-process.ts';
import { startMeshApi } from './support/controller.ts';
import type { Kubectl } from './support/kubectl.ts';

/**
 * Two controllers on one API, as processes that can be stopped: one of them writes, both serve proxies. A change of hands
 * takes 2 s in order and 12 s after a fault; the bounds here are for a machine that is busy.
 */
let running: TestApi;
let kubectl: Kubectl;
const folder = mkdtempSync(join(tmpdir(), 'ambit-lease-'));
const processes: ControllerProcess[] = [];
const leases = { group: 'coordination.k8s.io', resource: 'leases' };
const deployments = { group: 'apps', resource: 'deployments' };

/** The terms in which the waypoint's Deployment was written, in the order in which the API took them. */
const terms: number[] = [];

interface LeaseObject extends KubeObject {
  readonly spec: { readonly holderIdentity: string; readonly leaseTransitions: number };
}

function lease(): LeaseObject['spec'] | undefined {
  const found = running.api.store.get(leases, 'istio-system', 'ambit-controller');
  return (found as LeaseObject | undefined)?.spec;
}

const holder = (): string => lease()?.holderIdentity.split('_')[0] ?? '';

async function until(what: () => boolean, why: string, timeoutMs = 60_000): Promise<number> {
  const started = performance.now();
  while (!what()) {
    if (performance.now() - started > timeoutMs) throw new Error(`timed out: ${why}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return performance.now() - started;
}

function start(name: string): ControllerProcess {
  const one = startControllerProcess(running, folder, name);
  processes.push(one);
  return one;
}

function named(name: string): ControllerProcess {
  const found = processes.find((one) => one.name === name);
  if (found === undefined) throw new Error(`there is no ${name}`);
  return found;
}

const object = (kind: string, apiVersion: string, name: string, spec: object): string =>
  JSON.stringify({ apiVersion, kind, metadata: { name, namespace: 'shop' }, spec });

beforeAll(async () => {
  ({ running, kubectl } = await startMeshApi());
  const gateway = object('Gateway', 'gateway.networking.k8s.io/v1', 'waypoint', {
    gatewayClassName: 'istio-waypoint',
    listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
  });
  const route = object('VirtualService', 'networking.istio.io/v1', 'web', { hosts: ['web'] });
  await kubectl.out(['apply', '-f', '-'], `${gateway}\n---\n${route}`);
  running.api.store.watch(deployments, { namespace: 'shop' }, ({ object: { metadata } }) => {
    terms.push(Number(metadata.annotations?.['ambit.dev/term']));
  });
}, 150_000);

afterAll(async () => {
  await Promise.all(processes.map((one) => one.stop()));
  await running.api.close();
  kubectl.close();
  rmSync(folder, { recursive: true });
  expect(running.errors).toEqual([]);
}, 150_000);

/** The waypoint's Deployment bears the term of who holds the lease, the so-manieth one since the lease was made. */
async function deployedIn(term: number): Promise<void> {
  const since = (): number => (terms.at(-1) ?? 0) - (terms.at(0) ?? 0) + 1;
  await until(() => terms.length > 0 && since() === term, `a Deployment of term ${term}`);
  expect(terms.at(-1)).toBe(lease()?.leaseTransitions);
}

const neverBack = (): boolean => terms.every((term, index) => term >= (terms[index - 1] ?? 0));

async function serves(one: ControllerProcess): Promise<string> {
  const roots = await kubectl.out([
    ...['get', 'configmap/istio-ca-root-cert', '-n', 'shop'],
    ...['-o', 'jsonpath={.data.root-cert\\.pem}'],
  ]);
  const port = await one.port('control');
  return new Promise((resolve, reject) => {
    const servername = 'ambit-controller.istio-system.svc';
    const socket = connect({ host: '127.0.0.1', port, ca: roots, servername }, () => {
      resolve(String(socket.getPeerCertificate().issuer.O));
      socket.destroy();
    });
    socket.on('error', reject);
  });
}

test('one of two takes the lease, and both serve proxies by the one root', async () => {
  start('one');
  start('two');
  await until(() => holder() !== '', 'a leader');
  await deployedIn(1);
  const other = holder() === 'one' ? named('two') : named('one');
  for (const one of [named(holder()), other]) expect(await serves(one)).toBe('cluster.local');
  expect(
    running.api.store.list({ group: '', resource: 'secrets' }, 'istio-system').items,
  ).toHaveLength(1);
}, 150_000);

test('a leader that ends in order gives the lease back: another writes at once', async () => {
  const first = named(holder());
  await first.stop();
  processes.splice(processes.indexOf(first), 1);
  expect(
    await until(() => holder() !== first.name && holder() !== '', 'a new leader'),
  ).toBeLessThan(6_000);
  await deployedIn(2);
}, 150_000);

test('what stands is not written again by who comes after', async () => {
  const statuses = (): string =>
    JSON.stringify(
      [
        ['gateway.networking.k8s.io', 'gateways'],
        ['networking.istio.io', 'virtualservices'],
      ].flatMap(([group = '', resource = '']) =>
        running.api.store
          .list({ group, resource })
          .items.map(({ metadata }) => metadata.resourceVersion),
      ),
    );
  await until(
    () =>
      JSON.stringify(
        running.api.store.list({ group: 'networking.istio.io', resource: 'virtualservices' }).items,
      ).includes('Accepted'),
    'a status',
  );
  const before = statuses();
  const first = named(holder());
  start('three');
  await named('three').port('control');
  await first.stop();
  processes.splice(processes.indexOf(first), 1);
  await deployedIn(3);
  expect(statuses()).toBe(before);
}, 150_000);

test('a leader that is stopped is replaced, and writes nothing when it goes on', async () => {
  start('four');
  await named('four').port('control');
  const stopped = named('three');
  expect(holder()).toBe('three');
  stopped.signal('SIGSTOP');
  const tookMs = await until(() => holder() === 'four', 'another leader');
  expect(tookMs).toBeLessThan(25_000);
  await deployedIn(4);
  // Something that whoever believes to be the leader has to write, while the stopped one wakes.
  const gateway = object('Gateway', 'gateway.networking.k8s.io/v1', 'waypoint', {
    gatewayClassName: 'istio-waypoint',
    infrastructure: { labels: { round: 'four' } },
    listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
  });
  await kubectl.out(['apply', '-f', '-'], gateway);
  stopped.signal('SIGCONT');
  await until(
    () => stopped.lines.some(({ message }) => message === 'this controller writes no more'),
    'the stopped one to notice',
  );
  await until(
    () =>
      running.api.store.get(deployments, 'shop', 'waypoint')?.metadata.labels?.['round'] === 'four',
    'the change',
  );
  expect(holder()).toBe('four');
  await deployedIn(4);
  expect(neverBack()).toBe(true);
}, 150_000);

test('one that cannot reach the API stops before another may begin, and takes over again later', async () => {
  named('four').signal('SIGKILL');
  const tookMs = await until(() => holder() === 'three', 'the other again');
  expect(tookMs).toBeLessThan(25_000);
  await deployedIn(5);
  expect(neverBack()).toBe(true);
}, 150_000);

test('a lease that was deleted begins above the terms of the one before, and what is deployed goes on', async () => {
  const before = lease()?.leaseTransitions ?? 0;
  await kubectl.out(['delete', 'lease/ambit-controller', '-n', 'istio-system']);
  await until(() => (lease()?.leaseTransitions ?? 0) > before, 'another lease');
  await until(() => terms.at(-1) === lease()?.leaseTransitions, 'the Deployment of its term');
  expect(neverBack()).toBe(true);
}, 150_000);

test('another mesh that was first keeps it from writing, and it says which', async () => {
  await Promise.all(processes.map((one) => one.stop()));
  const service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'istiod', namespace: 'istio-system', labels: { app: 'istiod' } },
    spec: { ports: [{ name: 'grpc-xds', port: 15010 }] },
  };
  const slice = {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: 'istiod-1',
      namespace: 'istio-system',
      labels: { 'kubernetes.io/service-name': 'istiod' },
    },
    addressType: 'IPv4',
    endpoints: [{ addresses: ['10.0.0.9'], conditions: { ready: true } }],
    ports: [{ name: 'grpc-xds', port: 15010, protocol: 'TCP' }],
  };
  await kubectl.out(['delete', 'service/ambit-controller', '-n', 'istio-system']);
  await kubectl.out(
    ['apply', '-f', '-'],
    `${JSON.stringify(service)}\n---\n${JSON.stringify(slice)}`,
  );
  const five = start('five');
  const ready = async (): Promise<string> => {
    const answer = await fetch(`http://127.0.0.1:${await five.port('metrics')}/healthz/ready`);
    return answer.text();
  };
  await until(
    () => five.lines.some(({ message }) => message === 'all sources are known'),
    'all known',
  );
  expect(await ready()).toMatch(
    /waiting for another mesh to go: Istio already runs .*uninstall one of the two/,
  );
  const token = lease()?.leaseTransitions;
  await new Promise((resolve) => setTimeout(resolve, 4_000));
  expect(lease()).toMatchObject({ holderIdentity: '', leaseTransitions: token });
  await kubectl.out(['delete', 'endpointslice/istiod-1', '-n', 'istio-system']);
  await until(() => holder() === 'five', 'the lease');
  expect(await ready()).toBe('ready\n');
}, 150_000);
