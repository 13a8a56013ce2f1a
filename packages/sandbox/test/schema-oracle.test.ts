import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import {
  applyJsonPatch,
  applyMergePatch,
  applyStrategicMergePatch,
  builtinSchema,
  openApiV3,
  openApiV3Index,
} from '../src/schema/index.ts';
import type { JsonObject, ServedResource } from '../src/schema/index.ts';
import { kubectlPath } from './support/kubectl.ts';

const run = promisify(execFile);
const timeoutMs = 120_000;
let kubectl = '';
let folder = '';

beforeAll(async () => {
  kubectl = kubectlPath();
  folder = await mkdtemp(join(tmpdir(), 'ambit-schema-'));
}, timeoutMs);
afterAll(() => rm(folder, { recursive: true, force: true }));

/** What real kubectl computes offline, with the patch code of the API server; undefined when it refuses. */
async function oracle(doc: JsonObject, type: string, patch: unknown): Promise<unknown> {
  const file = join(folder, `${Math.random().toString(36).slice(2)}.json`);
  await writeFile(file, JSON.stringify(doc));
  const args = [
    'patch',
    '--local',
    '-f',
    file,
    '--type',
    type,
    '-p',
    JSON.stringify(patch),
    '-o',
    'json',
  ];
  try {
    return JSON.parse((await run(kubectl, args)).stdout);
  } catch (error) {
    const { stderr } = error as { stderr?: string };
    if (stderr === undefined || stderr === '') throw error;
    return undefined;
  }
}

/** kubectl prints through Go's types, which add and drop empty things; only what means something is compared. */
function meaningful(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(meaningful);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value)
    .map(([key, member]): [string, unknown] => [key, meaningful(member)])
    .filter(([, member]) => member !== null && member !== undefined && !isEmpty(member));
  return Object.fromEntries(entries);
}

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}

/** A small generator with a fixed seed: a failure comes again with the same index. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

type Dice = ReturnType<typeof random>;
const pick = <T>(dice: Dice, list: readonly T[]): T => list[dice(list.length)]!;
const some = <T>(dice: Dice, list: readonly T[]): T[] => list.filter(() => dice(2) === 0);
function shuffled<T>(dice: Dice, list: readonly T[]): T[] {
  return list
    .map((item) => ({ item, at: dice(1000) }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

function containerOf(dice: Dice, name: string): JsonObject {
  return {
    name,
    image: `image:${dice(3)}`,
    args: some(dice, ['-a', '-b']),
    env: some(dice, ['A', 'B', 'C']).map((key) => ({ name: key, value: String(dice(3)) })),
    ports: some(dice, [80, 443]).map((containerPort) => ({
      containerPort,
      name: `p${containerPort}`,
    })),
    volumeMounts: some(dice, ['/x', '/y']).map((mountPath) => ({ mountPath, name: 'v' })),
  };
}

function podOf(dice: Dice): JsonObject {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'p',
      labels: { a: '1', b: '2' },
      finalizers: some(dice, ['x/a', 'x/b', 'x/c']),
    },
    spec: {
      nodeSelector: { disk: 'ssd', zone: 'a' },
      tolerations: [{ key: 'k', operator: 'Exists' }],
      hostAliases: [{ ip: '1.1.1.1', hostnames: ['h'] }],
      volumes: [{ name: 'v', emptyDir: {} }],
      containers: ['a', ...some(dice, ['b', 'c', 'd'])].map((name) => containerOf(dice, name)),
    },
  };
}

function listPatch(dice: Dice, names: readonly string[]): JsonObject[] {
  return shuffled(dice, some(dice, names)).map((name) => {
    if (dice(5) === 0) return { name, $patch: 'delete' };
    const patch: JsonObject = { name, image: `image:${3 + dice(3)}` };
    if (dice(2) === 0) patch['args'] = dice(3) === 0 ? null : ['-z'];
    if (dice(2) === 0) patch['env'] = [{ name: pick(dice, ['A', 'B', 'Z']), value: 'new' }];
    if (dice(4) === 0) patch['env'] = [{ name: 'A', $patch: 'delete' }];
    if (dice(4) === 0) patch['ports'] = [{ containerPort: 80, name: 'web' }];
    return patch;
  });
}

function strategicPatch(dice: Dice): JsonObject {
  const spec: JsonObject = {};
  const containers = listPatch(dice, ['a', 'b', 'c', 'e']);
  if (containers.length > 0) spec['containers'] = containers;
  if (dice(6) === 0) containers.push({ $patch: 'replace' });
  else if (dice(3) === 0) {
    const order = shuffled(dice, ['a', 'b', 'c', 'd', 'e']);
    spec['$setElementOrder/containers'] = order.map((name) => ({ name }));
    spec['containers'] = order.flatMap((name) => containers.filter((one) => one['name'] === name));
  }
  if (dice(3) === 0)
    spec['nodeSelector'] = pick<unknown>(dice, [
      { zone: null },
      { $patch: 'replace', only: 'x' },
      null,
      { rack: '1' },
    ]);
  if (dice(3) === 0) spec['tolerations'] = [{ key: 'other', operator: 'Exists' }];
  if (dice(3) === 0)
    spec['hostAliases'] = [{ ip: pick(dice, ['1.1.1.1', '2.2.2.2']), hostnames: ['n'] }];
  if (dice(3) === 0)
    spec['volumes'] = [{ name: 'v', $retainKeys: ['name', 'hostPath'], hostPath: { path: '/' } }];
  const metadata: JsonObject = { labels: { a: null, c: '3' } };
  if (dice(3) === 0) metadata['finalizers'] = [pick(dice, ['x/a', 'x/n'])];
  if (dice(3) === 0) metadata['$deleteFromPrimitiveList/finalizers'] = ['x/b'];
  return dice(2) === 0 ? { spec } : { spec, metadata };
}

async function inGroups<T>(items: readonly T[], each: (item: T) => Promise<void>): Promise<void> {
  for (let index = 0; index < items.length; index += 4) {
    await Promise.all(items.slice(index, index + 4).map(each));
  }
}

describe('the patches against real kubectl', () => {
  const seeds = Array.from({ length: 120 }, (_, index) => index + 1);

  test(
    `strategic merge: ${seeds.length} generated patches of a pod`,
    async () => {
      const pod = builtinSchema('', 'v1', 'Pod');
      let compared = 0;
      await inGroups(seeds, async (seed) => {
        const dice = random(seed * 7919);
        const doc = podOf(dice);
        const patch = strategicPatch(dice);
        const ours = applyStrategicMergePatch(pod, doc, patch);
        const theirs = await oracle(doc, 'strategic', patch);
        const shown = JSON.stringify({ seed, doc, patch });
        expect({ shown, value: ours.ok ? meaningful(ours.value) : undefined }).toEqual({
          shown,
          value: meaningful(theirs),
        });
        if (theirs !== undefined) compared += 1;
      });
      expect(compared).toBeGreaterThan(seeds.length / 2);
    },
    timeoutMs,
  );

  test(
    'merge and JSON patches',
    async () => {
      const doc = podOf(random(1));
      const merges: unknown[] = [
        { metadata: { labels: { a: null, z: '1' } } },
        { spec: { containers: [{ name: 'only', image: 'i' }], nodeSelector: null } },
      ];
      await inGroups(merges, async (patch) => {
        expect(meaningful(applyMergePatch(doc, patch))).toEqual(
          meaningful(await oracle(doc, 'merge', patch)),
        );
      });
      const patches: unknown[] = [
        [
          { op: 'add', path: '/metadata/labels/x~1y', value: '1' },
          { op: 'remove', path: '/spec/nodeSelector' },
        ],
        [{ op: 'test', path: '/metadata/name', value: 'other' }],
        [{ op: 'copy', from: '/metadata/labels/a', path: '/metadata/labels/c' }],
        [{ op: 'move', from: '/spec/containers/0/image', path: '/spec/hostname' }],
        [{ op: 'remove', path: '/spec/nothing' }],
      ];
      await inGroups(patches, async (patch) => {
        const ours = applyJsonPatch(doc, patch);
        const theirs = await oracle(doc, 'json', patch);
        expect(ours.ok ? meaningful(ours.value) : undefined).toEqual(meaningful(theirs));
      });
    },
    timeoutMs,
  );
});

describe('the OpenAPI documents as real kubectl reads them', () => {
  const resources: ServedResource[] = [
    { group: '', version: 'v1', kind: 'Pod', plural: 'pods', namespaced: true },
    { group: '', version: 'v1', kind: 'Namespace', plural: 'namespaces', namespaced: false },
    { group: 'apps', version: 'v1', kind: 'Deployment', plural: 'deployments', namespaced: true },
  ];
  const mode = { type: 'string', description: 'How strict to be.', enum: ['STRICT', 'OFF'] };
  const schema = {
    type: 'object',
    description: 'Thing is a thing.',
    properties: { spec: { type: 'object', required: ['mode'], properties: { mode } } },
  };
  const crd: JsonObject = {
    metadata: { name: 'things.ambit.dev' },
    spec: {
      group: 'ambit.dev',
      scope: 'Namespaced',
      names: { plural: 'things', kind: 'Thing' },
      versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: schema } }],
    },
  };
  const input = { resources, crds: [crd] };
  const thing: ServedResource = {
    group: 'ambit.dev',
    version: 'v1',
    kind: 'Thing',
    plural: 'things',
    namespaced: true,
  };

  const listOf = (groupVersion: string): JsonObject => ({
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion,
    resources: [...resources, thing]
      .filter(({ group, version }) => [group, version].filter(Boolean).join('/') === groupVersion)
      .map(({ plural, kind, namespaced }) => ({
        name: plural,
        singularName: kind.toLowerCase(),
        kind,
        namespaced,
        verbs: ['get', 'list'],
      })),
  });
  const groupOf = (name: string): JsonObject => {
    const version = { groupVersion: `${name}/v1`, version: 'v1' };
    return { name, versions: [version], preferredVersion: version };
  };

  function answer(path: string): JsonObject | undefined {
    if (path === '/api') return { kind: 'APIVersions', versions: ['v1'] };
    if (path === '/apis')
      return {
        kind: 'APIGroupList',
        apiVersion: 'v1',
        groups: [groupOf('apps'), groupOf('ambit.dev')],
      };
    if (path === '/openapi/v3') return openApiV3Index(input);
    const prefix = /^\/openapi\/v3\/apis?\//;
    if (prefix.test(path)) return openApiV3(path.replace(prefix, ''), input);
    return listOf(path.replace(/^\/apis?\//, ''));
  }

  const server = createServer((request, response) => {
    const body = answer(new URL(request.url ?? '/', 'http://localhost').pathname);
    response.writeHead(body === undefined ? 404 : 200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body ?? {}));
  });
  beforeAll(async () => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });
  afterAll(async () => {
    await new Promise((resolve) => server.close(resolve));
  });

  async function explain(...args: string[]): Promise<string> {
    const { port } = server.address() as AddressInfo;
    const common = ['--server', `http://127.0.0.1:${port}`, '--cache-dir', join(folder, 'cache')];
    const env = { ...process.env, KUBECONFIG: join(folder, 'none') };
    return (await run(kubectl, ['explain', ...args, ...common], { env, maxBuffer: 2 ** 24 }))
      .stdout;
  }

  test('explain of a built-in field lists its members with types and descriptions', async () => {
    const text = await explain('pod.spec.containers');
    expect(text).toMatch(/KIND: +Pod/);
    expect(text).toMatch(/FIELD: containers <\[\]Container>/);
    expect(text).toMatch(/name\t<string> -required-/);
    expect(text).toMatch(/livenessProbe\t<Probe>/);
    expect(text).toContain('Arguments to the entrypoint.');
  });
  test('explain --recursive goes all the way down', async () => {
    const text = await explain('deployment', '--recursive');
    expect(text).toMatch(/GROUP: +apps/);
    expect(text).toMatch(/maxSurge\t<IntOrString>/);
    expect(text).toMatch(/limits\t<map\[string\]Quantity>/);
  });
  test('explain of a custom resource shows its schema', async () => {
    const text = await explain('thing.spec');
    expect(text).toMatch(/mode\t<string> -required-/);
    expect(text).toContain('How strict to be.');
    expect(text).toContain('enum: STRICT, OFF');
  });
});
