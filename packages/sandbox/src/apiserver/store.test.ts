import { describe, expect, test } from '@jest/globals';
import { builtinResources } from './builtins.ts';
import { startCustomResources } from './crds.ts';
import { isApiError } from './errors.ts';
import { startGarbageCollection } from './garbage.ts';
import type { KubeObject, OwnerReference } from './object.ts';
import { Registry } from './registry.ts';
import { parseLabelSelector } from './selectors.ts';
import { Storage } from './storage.ts';
import { ObjectStore } from './store.ts';

const core = (resource: string): { group: string; resource: string } => ({ group: '', resource });
const deployments = { group: 'apps', resource: 'deployments' };
const replicaSets = { group: 'apps', resource: 'replicasets' };

function aStore(): ObjectStore {
  const errors: unknown[] = [];
  const store = new ObjectStore(
    new Storage((error) => errors.push(error), 50),
    new Registry(builtinResources),
    () => Date.parse('2026-01-02T03:04:05.678Z'),
  );
  startCustomResources(store, Date.now);
  startGarbageCollection(store);
  store.create(core('namespaces'), {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: 'default' },
  });
  return store;
}

function anObject(kind: string, name: string, content: Partial<KubeObject> = {}): KubeObject {
  return {
    apiVersion: 'v1',
    kind,
    ...content,
    metadata: { name, namespace: 'default', ...content.metadata },
  };
}

function aWorkload(kind: string, name: string, owner?: OwnerReference): KubeObject {
  return anObject(kind, name, {
    metadata: {
      name,
      namespace: 'default',
      ...(owner === undefined ? {} : { ownerReferences: [owner] }),
    },
    spec: {
      selector: { matchLabels: { app: 'a' } },
      template: {
        metadata: { labels: { app: 'a' } },
        spec: { containers: [{ name: 'c', image: 'i:1' }] },
      },
    },
  });
}

function aPod(name: string, nodeName?: string): KubeObject {
  return anObject('Pod', name, {
    spec: {
      ...(nodeName === undefined ? {} : { nodeName }),
      containers: [{ name: 'c', image: 'i:1' }],
    },
  });
}

function ownedBy(owner: KubeObject, blockOwnerDeletion = false): OwnerReference {
  const { name, uid = '' } = owner.metadata;
  return {
    apiVersion: owner.apiVersion,
    kind: owner.kind,
    name,
    uid,
    controller: true,
    blockOwnerDeletion,
  };
}

function refusal(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (isApiError(error)) return `${error.status.reason}: ${error.message}`;
    throw error;
  }
  return 'none';
}

describe('identity and versions', () => {
  test('a new object gets uid, time in whole seconds, generation and version', () => {
    const { metadata } = aStore().create(core('configmaps'), anObject('ConfigMap', 'a'));
    expect(metadata).toMatchObject({ creationTimestamp: '2026-01-02T03:04:05Z', generation: 1 });
    expect(metadata.uid).toMatch(/^[0-9a-f-]{36}$/);
  });

  test('generateName makes names apart', () => {
    const store = aStore();
    const made = [1, 2].map(
      () =>
        store.create(
          core('configmaps'),
          anObject('ConfigMap', '', { metadata: { name: '', generateName: 'a-' } }),
        ).metadata.name,
    );
    expect(made[0]).toMatch(/^a-[a-z0-9]{5}$/);
    expect(made[0]).not.toBe(made[1]);
  });

  test('an update that changes nothing makes no version, and one from an old version conflicts', () => {
    const store = aStore();
    const first = store.create(
      core('configmaps'),
      anObject('ConfigMap', 'a', { data: { x: '1' } }),
    );
    expect(store.update(core('configmaps'), structuredClone(first))).toBe(first);
    store.patchMerge(core('configmaps'), 'default', 'a', { data: { x: '2' } });
    expect(refusal(() => store.update(core('configmaps'), { ...first, data: { x: '3' } }))).toMatch(
      /^Conflict: .*has been modified/,
    );
  });

  test('what is handed out cannot be changed in place', () => {
    const made = aStore().create(
      core('configmaps'),
      anObject('ConfigMap', 'a', { data: { x: '1' } }),
    );
    expect(() => ((made['data'] as Record<string, string>)['x'] = '2')).toThrow(TypeError);
  });

  test('generation follows the spec and not the status, and each side keeps the other', () => {
    const store = aStore();
    store.create(deployments, aWorkload('Deployment', 'd'));
    const status = store.patchMerge(
      deployments,
      'default',
      'd',
      { status: { replicas: 1 }, spec: { replicas: 9 } },
      { subresource: 'status' },
    );
    expect([status.metadata.generation, (status['spec'] as { replicas: number }).replicas]).toEqual(
      [1, 1],
    );
    const spec = store.patchMerge(deployments, 'default', 'd', {
      spec: { replicas: 3 },
      status: { replicas: 7 },
    });
    expect([spec.metadata.generation, spec['status']]).toEqual([2, { replicas: 1 }]);
  });
});

describe('watching', () => {
  test('events come in order of versions, also when a listener changes something', () => {
    const store = aStore();
    const seen: string[] = [];
    store.observe(core('configmaps'), ({ type, object }) => {
      if (type === 'ADDED' && object.metadata.name === 'a')
        store.patchMerge(core('configmaps'), 'default', 'a', { data: { x: 'y' } });
    });
    store.observe(core('configmaps'), ({ type, object }) =>
      seen.push(`${type} ${object.metadata.resourceVersion ?? ''}`),
    );
    store.create(core('configmaps'), anObject('ConfigMap', 'a'));
    expect(seen.map((one) => one.split(' ')[0])).toEqual(['ADDED', 'MODIFIED']);
    const versions = seen.map((one) => Number(one.split(' ')[1]));
    expect(versions).toEqual([...versions].sort((a, b) => a - b));
  });

  test('resumes from a version and refuses one that is forgotten', () => {
    const store = aStore();
    const { resourceVersion } = store.list(core('configmaps'));
    store.create(core('configmaps'), anObject('ConfigMap', 'a'));
    const seen: string[] = [];
    store
      .watch(core('configmaps'), { sinceResourceVersion: resourceVersion }, ({ type }) =>
        seen.push(type),
      )
      .close();
    expect(seen).toEqual(['ADDED']);
    for (let count = 0; count < 60; count++) {
      store.patchMerge(core('configmaps'), 'default', 'a', { data: { count: String(count) } });
    }
    const resume = (): unknown =>
      store.watch(core('configmaps'), { sinceResourceVersion: resourceVersion }, () => undefined);
    expect(refusal(resume)).toMatch(/^Expired: too old resource version/);
  });
});

describe('deletion', () => {
  test('a pod on a node stays for its grace period until it is deleted with none', () => {
    const store = aStore();
    store.create(core('pods'), aPod('p', 'n1'));
    const leaving = store.delete(core('pods'), 'default', 'p');
    expect(leaving.gone).toBe(false);
    expect(leaving.object.metadata).toMatchObject({
      deletionGracePeriodSeconds: 30,
      deletionTimestamp: '2026-01-02T03:04:35Z',
    });
    store.patchMerge(
      core('pods'),
      'default',
      'p',
      { status: { phase: 'Failed' } },
      { subresource: 'status' },
    );
    expect(store.get(core('pods'), 'default', 'p')).toBeDefined();
    expect(store.delete(core('pods'), 'default', 'p', { gracePeriodSeconds: 0 }).gone).toBe(true);
    expect(store.get(core('pods'), 'default', 'p')).toBeUndefined();
  });

  test('a pod on no node goes at once, one with another uid not at all', () => {
    const store = aStore();
    store.create(core('pods'), aPod('p'));
    expect(refusal(() => store.delete(core('pods'), 'default', 'p', { uid: 'other' }))).toMatch(
      /^Conflict: .*UID in precondition/,
    );
    expect(store.delete(core('pods'), 'default', 'p').gone).toBe(true);
  });

  test('a finalizer holds an object until it is taken away', () => {
    const store = aStore();
    const metadata = { name: 'a', namespace: 'default', finalizers: ['example.com/hold'] };
    store.create(core('configmaps'), anObject('ConfigMap', 'a', { metadata }));
    expect(store.delete(core('configmaps'), 'default', 'a').gone).toBe(false);
    store.patchMerge(core('configmaps'), 'default', 'a', { metadata: { finalizers: null } });
    expect(store.get(core('configmaps'), 'default', 'a')).toBeUndefined();
  });

  test.each([
    ['Background', []],
    ['Foreground', []],
    ['Orphan', ['rs']],
  ] as const)('%s leaves of the dependents %j', (propagationPolicy, left) => {
    const store = aStore();
    const owner = store.create(deployments, aWorkload('Deployment', 'd'));
    store.create(replicaSets, aWorkload('ReplicaSet', 'rs', ownedBy(owner, true)));
    store.delete(deployments, 'default', 'd', { propagationPolicy });
    expect(store.get(deployments, 'default', 'd')).toBeUndefined();
    expect(store.list(replicaSets).items.map(({ metadata }) => metadata.name)).toEqual(left);
    if (propagationPolicy === 'Orphan') {
      expect(store.get(replicaSets, 'default', 'rs')?.metadata.ownerReferences).toBeUndefined();
    }
  });

  test('in the foreground an owner waits for a dependent that is held', () => {
    const store = aStore();
    const owner = store.create(deployments, aWorkload('Deployment', 'd'));
    const held = aWorkload('ReplicaSet', 'rs', ownedBy(owner, true));
    held.metadata.finalizers = ['example.com/hold'];
    store.create(replicaSets, held);
    store.delete(deployments, 'default', 'd', { propagationPolicy: 'Foreground' });
    expect(store.get(deployments, 'default', 'd')?.metadata.deletionTimestamp).toBeDefined();
    store.patchMerge(replicaSets, 'default', 'rs', { metadata: { finalizers: null } });
    expect(store.get(deployments, 'default', 'd')).toBeUndefined();
  });

  test('an object whose owner is already gone goes too', () => {
    const store = aStore();
    const owner = store.create(deployments, aWorkload('Deployment', 'd'));
    store.delete(deployments, 'default', 'd');
    store.create(replicaSets, aWorkload('ReplicaSet', 'late', ownedBy(owner)));
    expect(store.get(replicaSets, 'default', 'late')).toBeUndefined();
  });

  test('a namespace takes nothing new while it goes, and goes when its last object has', () => {
    const store = aStore();
    store.create(core('pods'), aPod('p', 'n1'));
    store.create(core('configmaps'), anObject('ConfigMap', 'a'));
    expect(store.delete(core('namespaces'), undefined, 'default').object['status']).toEqual({
      phase: 'Terminating',
    });
    expect(store.get(core('configmaps'), 'default', 'a')).toBeUndefined();
    expect(refusal(() => store.create(core('configmaps'), anObject('ConfigMap', 'b')))).toMatch(
      /^Forbidden: .*being terminated/,
    );
    store.delete(core('pods'), 'default', 'p', { gracePeriodSeconds: 0 });
    expect(store.get(core('namespaces'), undefined, 'default')).toBeUndefined();
    expect(refusal(() => store.create(core('configmaps'), anObject('ConfigMap', 'b')))).toBe(
      'NotFound: namespaces "default" not found',
    );
  });
});

describe('services', () => {
  const service = (name: string, spec: object): KubeObject =>
    anObject('Service', name, { spec: { ports: [{ port: 80 }], ...spec } });

  test('get an address of each family they ask for and keep it', () => {
    const store = aStore();
    const made = store.create(
      core('services'),
      service('a', { ipFamilyPolicy: 'RequireDualStack' }),
    );
    expect(made['spec']).toMatchObject({
      clusterIP: '10.96.0.11',
      clusterIPs: ['10.96.0.11', 'fd00:10:96::b'],
      ipFamilies: ['IPv4', 'IPv6'],
      ports: [{ port: 80, protocol: 'TCP', targetPort: 80 }],
    });
    const applied = store.update(
      core('services'),
      service('a', { ipFamilyPolicy: 'RequireDualStack', ports: [{ port: 81 }] }),
    );
    expect(applied['spec']).toMatchObject({ clusterIPs: ['10.96.0.11', 'fd00:10:96::b'] });
    const next = store.create(core('services'), service('b', {}));
    expect(next['spec']).toMatchObject({ clusterIP: '10.96.0.12', ipFamilies: ['IPv4'] });
  });

  test('take the address they name unless it is taken, foreign or changed', () => {
    const store = aStore();
    store.create(core('services'), service('a', { clusterIP: '10.96.0.10' }));
    expect(
      refusal(() => store.create(core('services'), service('b', { clusterIP: '10.96.0.10' }))),
    ).toContain('already allocated');
    expect(
      refusal(() => store.create(core('services'), service('b', { clusterIP: '10.0.0.1' }))),
    ).toContain('not in the valid range');
    expect(
      refusal(() => store.update(core('services'), service('a', { clusterIP: '10.96.0.99' }))),
    ).toContain('field is immutable');
    expect(
      store.create(core('services'), service('c', { clusterIP: 'None' }))['spec'],
    ).toMatchObject({ clusterIPs: ['None'] });
  });
});

describe('what may not change', () => {
  test('a pod beside its image, a selector, a role reference, a fixed ConfigMap', () => {
    const store = aStore();
    store.create(core('pods'), aPod('p'));
    expect(
      refusal(() =>
        store.patchMerge(core('pods'), 'default', 'p', { spec: { restartPolicy: 'Never' } }),
      ),
    ).toContain('pod updates may not change fields');
    expect(
      refusal(() => store.patchMerge(core('pods'), 'default', 'p', { spec: { nodeName: 'n1' } })),
    ).toBe('none');
    store.create(deployments, aWorkload('Deployment', 'd'));
    const selector = { matchLabels: { app: 'a', more: 'b' } };
    expect(
      refusal(() => store.patchMerge(deployments, 'default', 'd', { spec: { selector } })),
    ).toContain('field is immutable');
    store.create(
      core('configmaps'),
      anObject('ConfigMap', 'a', { immutable: true, data: { x: '1' } }),
    );
    expect(
      refusal(() => store.patchMerge(core('configmaps'), 'default', 'a', { data: { x: '2' } })),
    ).toContain('field is immutable');
  });
});

test('a list is ordered, and selected by labels', () => {
  const store = aStore();
  for (const [name, app] of [
    ['b', 'x'],
    ['a', 'x'],
    ['c', 'y'],
  ] as const) {
    store.create(
      core('configmaps'),
      anObject('ConfigMap', name, { metadata: { name, namespace: 'default', labels: { app } } }),
    );
  }
  const { items } = store.list(core('configmaps'), 'default', parseLabelSelector('app in (x)'));
  expect(items.map(({ metadata }) => metadata.name)).toEqual(['a', 'b']);
});
