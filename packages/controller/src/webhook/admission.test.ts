import { parseTrustDomain } from '@ambit/api';
import { beforeEach, describe, expect, test } from '@jest/globals';

import { webhookWorld } from '../../test/webhook-world.ts';
import type { MeshCollections } from '../collections/mesh.ts';
import { createMeshCollections } from '../collections/mesh.ts';
import { decodeMetadata } from '../kube/decode/fields.ts';
import type { Scope } from '../kube/scope.ts';
import { followScope } from '../kube/scope.ts';
import { followOwnership } from '../ownership.ts';
import { compileMeshConfig } from '../translate/mesh-config.ts';
import type { ClusterFacts } from '../translate/workload.ts';
import type { Verdict } from './admission.ts';
import { judgeRequest } from './admission.ts';

const root = 'istio-system';
const trustDomain = parseTrustDomain('cluster.local');
if (!trustDomain.ok) throw new TypeError(trustDomain.error.message);
const cluster: ClusterFacts = {
  trustDomain: trustDomain.value,
  clusterId: 'Kubernetes',
  clusterDomain: 'cluster.local',
  rootNamespace: root,
};

describe('an object in a namespace that discovery selectors do not select', () => {
  let collections: MeshCollections;
  let scope: Scope;
  const putNamespace = (name: string, labels: object): void => {
    const meta = decodeMetadata({ metadata: { name, labels } });
    if (meta !== undefined) collections.sources.namespaces.set(name, { meta });
  };
  beforeEach(() => {
    collections = createMeshCollections(cluster);
    scope = followScope(collections.sources, root);
    putNamespace(root, {});
    putNamespace('in', { mesh: 'on' });
    putNamespace('out', {});
    const mesh = { discoverySelectors: [{ matchLabels: { mesh: 'on' } }] };
    collections.sources.meshConfig.set(`${root}/istio`, compileMeshConfig(mesh, 'ConfigMap'));
  });
  const judged = (namespace: string): Verdict =>
    judgeRequest(
      {
        uid: 'u',
        operation: 'CREATE',
        group: 'security.istio.io',
        resource: 'authorizationpolicies',
        namespace,
        name: 'broken',
        object: {
          kind: 'AuthorizationPolicy',
          metadata: { namespace, name: 'broken' },
          spec: { action: 'MAYBE' },
        },
        before: undefined,
      },
      {
        collections,
        cluster,
        scope,
        ownership: followOwnership(collections.sources.namespaces, cluster),
      },
    );

  test('is let in with a warning that it has no effect, whatever it says', () => {
    expect(judged('out')).toEqual({
      errors: [],
      warnings: [
        {
          object: 'AuthorizationPolicy out/broken',
          field: 'metadata.namespace',
          message:
            'has no effect: discoverySelectors of ConfigMap istio-system/istio do not select namespace out',
          admissible: true,
        },
      ],
    });
  });

  test.each(['in', root, 'new'])('in %s it is judged', (namespace) => {
    const { errors } = judged(namespace);
    expect(errors.map(({ field }) => field)).toEqual(['spec.action']);
  });

  test('without selectors it is judged', () => {
    collections.sources.meshConfig.delete(`${root}/istio`);
    expect(judged('out').errors).toHaveLength(1);
  });
});

describe('an object of another revision', () => {
  const policy = (labels: object, spec: object): object => ({
    kind: 'AuthorizationPolicy',
    metadata: { namespace: 'shop', name: 'one', labels },
    spec,
  });
  const targetRefs = [{ kind: 'Service', name: 'gone' }];
  const missing = ['spec.targetRefs[0].name: there is no Service shop/gone'];

  test('is warned of by its own control plane', () => {
    const world = webhookWorld();
    expect(world.warnings(policy({}, { targetRefs }))).toEqual(missing);
    expect(world.warnings(policy({ 'istio.io/rev': 'canary' }, { targetRefs }))).toEqual([]);
    world.put({ kind: 'Namespace', metadata: { name: 'shop', labels: { 'istio.io/rev': 'x' } } });
    expect(world.warnings(policy({}, { targetRefs }))).toEqual([]);
    const canary = webhookWorld({ revision: 'canary' });
    expect(canary.warnings(policy({ 'istio.io/rev': 'canary' }, { targetRefs }))).toEqual(missing);
    expect(canary.warnings(policy({}, { targetRefs }))).toEqual([]);
  });

  test('is refused all the same where it cannot be compiled: every control plane reads it', () => {
    const { errors } = webhookWorld().judge(
      policy({ 'istio.io/rev': 'canary' }, { action: 'MAYBE' }),
    );
    expect(errors.map(({ field }) => field)).toEqual(['spec.action']);
  });
});
