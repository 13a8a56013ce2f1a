import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { runCli } from '@ambit/cli';
import { crds } from '@ambit/controller';
import { createKubeTour } from '../src/tour/kube.ts';
import { startTestApi, type TestApi } from './support/api-server.ts';
import { createKubectl, kubectlPath, type Kubectl } from './support/kubectl.ts';

/** The waypoint commands against the sandbox's API server; what the controller would say is written by hand. */
let running: TestApi;
let kubectl: Kubectl;
let directory: string;
let file: string;
let tour: ReturnType<typeof createKubeTour>;
let number = 0;
let shop: string;

beforeAll(async () => {
  running = await startTestApi();
  const { server, ca } = running;
  const token = running.api.tokens.adminToken;
  kubectl = createKubectl(kubectlPath('1.34'), { server, ca, token });
  const authority = Buffer.from(ca).toString('base64');
  const kubeconfig = JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'a', cluster: { server, 'certificate-authority-data': authority } }],
    users: [{ name: 'a', user: { token } }],
    contexts: [
      { name: 'a', context: { cluster: 'a', user: 'a' } },
      { name: 'empty', context: { cluster: 'a', user: 'a', namespace: 'nobody' } },
    ],
    'current-context': 'a',
  });
  directory = mkdtempSync(join(tmpdir(), 'ambitctl-'));
  file = join(directory, 'kubeconfig');
  writeFileSync(file, kubeconfig);
  tour = createKubeTour({
    kubeconfig,
    captureNodeLink: () => {
      throw new Error('there is no node here');
    },
  });
  for (const crd of crds()) await tour.apply(crd);
}, 60_000);

afterAll(async () => {
  kubectl.close();
  rmSync(directory, { recursive: true, force: true });
  await running.api.close();
});

beforeEach(async () => {
  number += 1;
  shop = `shop-${number}`;
  await namespace(shop);
});

interface Told {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

async function ctl(...args: string[]): Promise<Told> {
  const out: string[] = [];
  const err: string[] = [];
  const status = await runCli(['waypoint', ...args, '--kubeconfig', file], {
    out: (text) => out.push(text),
    err: (text) => err.push(text),
  });
  return { status, out: out.join('\n'), err: err.join('\n') };
}

async function namespace(name: string, labels: object = {}): Promise<void> {
  await tour.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } });
}

async function labelsOf(name: string): Promise<unknown> {
  const text = await kubectl.out(['get', 'namespace', name, '-o', 'json']);
  return (JSON.parse(text) as { metadata: { labels?: unknown } }).metadata.labels;
}

async function say(what: string, type: string, status: string, message: string): Promise<void> {
  await write(what, { type, status, reason: 'Test', message });
}

async function write(what: string, condition: object): Promise<void> {
  const patch = { status: { conditions: [condition] } };
  const args = ['patch', what, '-n', shop, '--subresource=status', '--type=merge', '-p'];
  await kubectl.out([...args, JSON.stringify(patch)]);
}

test('apply makes the Gateway, says so, and may be repeated', async () => {
  for (let time = 0; time < 2; time += 1) {
    expect(await ctl('apply', '-n', shop)).toEqual({
      status: 0,
      out: `waypoint ${shop}/waypoint applied`,
      err: '',
    });
  }
  const text = await kubectl.out(['get', 'gateway', 'waypoint', '-n', shop, '-o', 'json']);
  expect(JSON.parse(text)).toMatchObject({
    spec: {
      gatewayClassName: 'istio-waypoint',
      listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
    },
  });
});

test('apply into a namespace that is not there says which', async () => {
  const told = await ctl('apply', '-n', 'nowhere');
  expect(told).toMatchObject({ status: 1, err: 'ambitctl: there is no namespace nowhere' });
});

test('the namespace is enrolled, and not taken from another waypoint unless told', async () => {
  const first = await ctl('apply', '-n', shop, '--enroll-namespace');
  expect(first.out).toContain(`namespace ${shop} labelled istio.io/use-waypoint=waypoint`);
  expect(first.err).toContain('label it istio.io/dataplane-mode=ambient');
  const second = await ctl('apply', '-n', shop, '--name', 'other', '--enroll-namespace');
  expect(second.status).toBe(1);
  expect(second.err).toContain('give --overwrite');
  expect(await kubectl.out(['get', 'gateway', '-n', shop, '-o', 'name'])).not.toContain('other');
  const third = await ctl(
    'apply',
    '-n',
    shop,
    '--name',
    'other',
    '--enroll-namespace',
    '--overwrite',
  );
  expect(third.status).toBe(0);
  expect(await labelsOf(shop)).toMatchObject({ 'istio.io/use-waypoint': 'other' });
});

test('a namespace that is bound to a waypoint of another namespace is bound to that', async () => {
  const labels = {
    'istio.io/use-waypoint': 'waypoint',
    'istio.io/use-waypoint-namespace': 'infra',
  };
  await namespace(shop, labels);
  const refused = await ctl('apply', '-n', shop, '--enroll-namespace');
  expect(refused.err).toContain('is bound to waypoint infra/waypoint already');
  await ctl('apply', '-n', shop, '--enroll-namespace', '--overwrite');
  expect(await labelsOf(shop)).not.toHaveProperty('istio.io/use-waypoint-namespace');
});

test('--wait ends when it serves, and says why it does not', async () => {
  await ctl('apply', '-n', shop);
  await say('gateway/waypoint', 'Programmed', 'True', 'a proxy is ready');
  const ready = await ctl('apply', '-n', shop, '--wait');
  expect(ready).toMatchObject({ status: 0, out: expect.stringContaining('serves') });
  await say('gateway/waypoint', 'Programmed', 'False', 'no proxy is ready');
  const late = await ctl('apply', '-n', shop, '--wait', '--wait-timeout', '0.3');
  expect(late).toMatchObject({ status: 1, err: expect.stringContaining('no proxy is ready') });
  await say('gateway/waypoint', 'Accepted', 'False', 'spec.listeners: wrong');
  const refused = await ctl('apply', '-n', shop, '--wait');
  expect(refused).toMatchObject({
    status: 1,
    err: expect.stringContaining('is refused: spec.listeners: wrong'),
  });
});

test('generate prints what apply would make, without a cluster too', async () => {
  const told = await ctl('generate', '-n', shop, '--name', 'w', '--for', 'all', '--revision', 'r1');
  expect(told).toMatchObject({ status: 0, err: '' });
  await expect(kubectl.out(['apply', '--dry-run=server', '-f', '-'], told.out)).resolves.toContain(
    'gateway.gateway.networking.k8s.io/w created',
  );
  expect(told.out).toContain('istio.io/waypoint-for: all');
  expect(told.out).toContain('istio.io/rev: r1');
  const alone: string[] = [];
  const args = ['waypoint', 'generate', '--kubeconfig', join(directory, 'none')];
  const sink = { out: (text: string) => alone.push(text), err: (text: string) => alone.push(text) };
  expect(await runCli(args, sink)).toBe(0);
  expect(alone.join()).toContain('namespace: default');
});

test.each([
  ['--name', 'Bad_Name'],
  ['--name', 'a.b'],
  ['--name', ''],
  ['--name', 'x'.repeat(64)],
  ['--namespace', 'Bad_Name'],
  ['--namespace', '../nodes'],
])('neither generate nor apply takes %s %j', async (option, value) => {
  for (const action of ['generate', 'apply']) {
    const told = await ctl(action, option, value);
    expect(told).toMatchObject({ status: 1, out: '' });
    expect(told.err).toBe(
      `ambitctl: ${option} ${JSON.stringify(value)} is no name: at most 63 lower case letters, digits and '-', with a letter or digit at both ends`,
    );
  }
  expect((await ctl('generate', '-n', shop, '--name', 'x'.repeat(63))).status).toBe(0);
});

test('list shows name, revision, traffic and whether it serves', async () => {
  expect((await ctl('list', '-n', shop)).out).toBe(`No waypoints found in namespace ${shop}.`);
  await ctl('apply', '-n', shop, '--for', 'workload');
  await say('gateway/waypoint', 'Programmed', 'True', 'a proxy is ready');
  expect((await ctl('list', '-n', shop)).out.split('\n')).toEqual([
    'NAME       REVISION   TRAFFIC    PROGRAMMED',
    'waypoint   default    workload   True',
  ]);
  expect((await ctl('list', '-A')).out).toMatch(
    new RegExp(`^NAMESPACE .*\\n(.*\\n)*${shop} +waypoint +default +workload +True`),
  );
});

test('status tells what is bound and what is refused without it, and fails while it does not serve', async () => {
  await ctl('apply', '-n', shop);
  await kubectl.out(['create', 'service', 'clusterip', 'reviews', '--tcp=80', '-n', shop]);
  await kubectl.out(['label', 'service', 'reviews', 'istio.io/use-waypoint=waypoint', '-n', shop]);
  const early = await ctl('status', '-n', shop);
  expect(early).toMatchObject({ status: 1, err: expect.stringContaining('does not serve') });
  expect(early.out).toContain('Nothing is bound to it.');
  await say('gateway/waypoint', 'Programmed', 'True', 'a proxy is ready');
  const conditions = [
    ['istio.io/WaypointBound', 'attached'],
    ['ambit.dev/WaypointRequired', 'because of AuthorizationPolicy x'],
  ].map(([type, message]) => ({ type, status: 'True', reason: 'Test', message }));
  const patch = JSON.stringify({ status: { conditions } });
  await kubectl.out([
    'patch',
    'service/reviews',
    '-n',
    shop,
    '--subresource=status',
    '--type=merge',
    '-p',
    patch,
  ]);
  const told = await ctl('status', '-n', shop);
  expect(told.status).toBe(0);
  expect(told.out).toMatch(
    new RegExp(`Service +${shop}/reviews +True +True +attached; because of AuthorizationPolicy x`),
  );
  expect((await ctl('status', '-n', shop, '--name', 'w')).err).toBe(
    `ambitctl: there is no waypoint ${shop}/w; ambitctl waypoint apply makes one`,
  );
});

test('status tells of each policy what it closes, and why it closes nothing', async () => {
  await ctl('apply', '-n', shop);
  await kubectl.out(['label', 'namespace', shop, 'istio.io/use-waypoint=waypoint']);
  await kubectl.out(['create', 'service', 'clusterip', 'reviews', '--tcp=80', '-n', shop]);
  const policy = (name: string, target: object, annotations: object = {}) =>
    tour.apply({
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name, namespace: shop, annotations },
      spec: { targetRefs: [target], rules: [{}] },
    });
  const reviews = { group: '', kind: 'Service', name: 'reviews' };
  await policy('holds', reviews);
  await policy('rehearses', reviews, { 'istio.io/dry-run': 'true' });
  await policy('dangles', { ...reviews, name: 'nobody' });
  await say('gateway/waypoint', 'Programmed', 'True', 'a proxy is ready');
  const required = `because of AuthorizationPolicy ${shop}/holds the workloads refuse`;
  await say('service/reviews', 'ambit.dev/WaypointRequired', 'True', required);
  const missing = `spec.targetRefs[0].name: there is no Service ${shop}/nobody`;
  await write('authorizationpolicy/dangles', {
    type: 'WaypointAccepted',
    status: 'False',
    reason: 'TargetNotFound',
    message: missing,
  });
  const { out } = await ctl('status', '-n', shop);
  const told = out.split('\n').filter((line) => line.startsWith('AuthorizationPolicy'));
  expect(told.map((line) => line.split(/ {2,}/).slice(1))).toEqual([
    [`${shop}/dangles`, `nothing is refused for it: TargetNotFound: ${missing}`],
    [`${shop}/holds`, `Service ${shop}/reviews: refused unless it came through ${shop}/waypoint`],
    [`${shop}/rehearses`, 'nothing is refused for it: it is in dry run'],
  ]);
});

test('delete takes one, several or all, and names what is not there', async () => {
  for (const name of ['a', 'b', 'c']) await ctl('apply', '-n', shop, '--name', name);
  expect((await ctl('delete', 'a', '-n', shop)).out).toBe(`waypoint ${shop}/a deleted`);
  expect(await ctl('delete', 'a', '-n', shop)).toMatchObject({
    status: 1,
    err: `ambitctl: there is no waypoint ${shop}/a`,
  });
  expect((await ctl('delete', 'b', '--all', '-n', shop)).err).toContain('not both');
  expect((await ctl('delete', '--all', '-n', shop)).out).toBe(
    `waypoint ${shop}/b deleted\nwaypoint ${shop}/c deleted`,
  );
  expect((await ctl('delete', '--all', '-n', shop)).out).toContain('No waypoints found');
});

test('a Gateway of another class is no waypoint and is left alone', async () => {
  await tour.apply({
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'Gateway',
    metadata: { name: 'ingress', namespace: shop },
    spec: { gatewayClassName: 'nginx', listeners: [{ name: 'x', port: 80, protocol: 'HTTP' }] },
  });
  expect((await ctl('list', '-n', shop)).out).toContain('No waypoints found');
  expect((await ctl('delete', 'ingress', '-n', shop)).status).toBe(1);
  expect((await ctl('delete', '--all', '-n', shop)).out).toContain('No waypoints found');
  expect(await kubectl.out(['get', 'gateway', '-n', shop, '-o', 'name'])).toContain('ingress');
});

test('the context’s namespace is meant where none is given, and mistakes say what to do', async () => {
  expect((await ctl('list', '--context', 'empty')).out).toContain('in namespace nobody');
  expect((await ctl('list', '--context', 'nonsense')).status).toBe(1);
  expect(await ctl('apply', '--for', 'everything')).toMatchObject({ status: 1 });
  expect(await ctl('frobnicate')).toEqual({
    status: 1,
    out: '',
    err: 'ambitctl: there is no ambitctl waypoint frobnicate; there are apply, generate, list, status and delete',
  });
  expect((await ctl()).err).toContain('Which action?');
  expect((await ctl('apply', '--nonsense')).err).toContain('nonsense');
  const help = await ctl('apply', '--help');
  expect(help).toMatchObject({ status: 0, out: expect.stringContaining('--enroll-namespace') });
});
