import { parseTrustDomain } from '@ambit/api';
import { beforeEach, describe, expect, test } from '@jest/globals';

import type { MeshCollections } from '../collections/mesh.ts';
import { createMeshCollections } from '../collections/mesh.ts';
import { decodeMetadata } from '../kube/decode/fields.ts';
import type { Scope } from '../kube/scope.ts';
import { followScope } from '../kube/scope.ts';
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
      { collections, cluster, scope },
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
