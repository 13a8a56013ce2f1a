import { describe, expect, test } from '@jest/globals';

import { decoded } from '../../test/records.ts';
import { trustDomain } from '../../test/support.ts';
import { decodeGateway } from '../kube/decode/configuration.ts';
import { decodeParameters } from '../kube/decode/parameters.ts';
import { compileWaypoint } from '../translate/waypoint.ts';
import type { Customized } from './customize.ts';
import { customized } from './customize.ts';
import { merged } from './merge.ts';
import { waypointObjects } from './objects.ts';

const settings = {
  image: 'w',
  imagePullPolicy: undefined,
  imagePullSecrets: [],
  resources: { requests: { cpu: '100m', memory: '128Mi' } },
  controller: 'c:15012',
  clusterId: 'c1',
  trustDomain: 'cluster.local',
};

function made(data: Readonly<Record<string, string>>): Customized {
  const compiled = compileWaypoint(
    decoded(decodeGateway, {
      metadata: { name: 'waypoint', namespace: 'shop', uid: 'u' },
      spec: {
        gatewayClassName: 'istio-waypoint',
        listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
      },
    }),
    {
      clusterId: 'c1',
      trustDomain: trustDomain(),
      rootNamespace: 'istio-system',
      clusterDomain: 'cluster.local',
    },
  );
  if (compiled === undefined) throw new TypeError('no waypoint');
  return customized(
    waypointObjects(compiled, settings),
    'shop/overlay',
    decodeParameters({ data }),
  );
}

function objectOf(kind: string, data: Readonly<Record<string, string>>): unknown {
  const result = made(data);
  if (!result.ok) throw new Error(result.problems.join('; '));
  return result.objects.find(({ object }) => object.kind === kind)?.object;
}

describe('what the parameters of a Gateway change', () => {
  test('a deployment, merged by the names of its containers and variables', () => {
    const deployment = `
metadata: { annotations: { team: a } }
spec:
  replicas: 3
  template:
    spec:
      nodeSelector: { disk: fast }
      containers:
        - name: istio-proxy
          resources: { requests: { cpu: 500m } }
          env: [{ name: LOG_LEVEL, value: debug }]
`;
    expect(objectOf('Deployment', { deployment })).toMatchObject({
      metadata: { name: 'waypoint', annotations: { team: 'a' } },
      spec: {
        replicas: 3,
        template: {
          spec: {
            nodeSelector: { disk: 'fast' },
            containers: [
              {
                name: 'istio-proxy',
                image: 'w',
                resources: { requests: { cpu: '500m', memory: '128Mi' } },
                env: expect.arrayContaining([
                  { name: 'GATEWAY_NAME', value: 'waypoint' },
                  { name: 'LOG_LEVEL', value: 'debug' },
                ]) as unknown,
              },
            ],
          },
        },
      },
    });
  });

  test('a service and a service account', () => {
    const data = {
      service: 'spec: { ports: [{ port: 8080, name: more, targetPort: 8080 }] }',
      serviceAccount: 'metadata: { annotations: { role: x } }',
    };
    const ports = (objectOf('Service', data) as { spec: { ports: { port: number }[] } }).spec.ports;
    expect(ports.map(({ port }) => port)).toEqual([15021, 15008, 8080]);
    expect(objectOf('ServiceAccount', data)).toMatchObject({
      metadata: { annotations: { role: 'x' } },
    });
  });

  const proxy = (more: string) => `{ containers: [{ name: istio-proxy, ${more} }] }`;
  const security = (more: string) => proxy(`securityContext: { ${more} }`);
  test.each([
    ['no context', proxy('securityContext: null'), 'capabilities.drop'],
    ['a container without one', '{ containers: [{ name: x, image: y }] }', 'runAsNonRoot: true'],
    ['an init container', '{ initContainers: [{ name: x, image: y }] }', 'container x must run'],
    ['escalation', security('allowPrivilegeEscalation: null'), 'allowPrivilegeEscalation: false'],
    ['capabilities', security('capabilities: { drop: null }'), 'capabilities.drop'],
    ['no seccomp', security('seccompProfile: { type: Unconfined }'), 'seccompProfile'],
    ['all of /proc', security('procMount: Unmasked'), 'procMount'],
    ['no AppArmor', security('appArmorProfile: { type: Unconfined }'), 'appArmorProfile'],
    ['another SELinux type', security('seLinuxOptions: { type: spc_t }'), 'seLinuxOptions'],
    ['root for the pod', '{ securityContext: { runAsUser: 0 } }', 'runAsUser: 0'],
    ['a port of the node', proxy('ports: [{ containerPort: 80, hostPort: 80 }]'), 'hostPort'],
    ['the place of the system', '{ priorityClassName: system-node-critical }', 'priority class'],
    ['a Secret', '{ volumes: [{ name: x, secret: { secretName: y } }] }', 'type secret'],
    [
      'a projected Secret',
      '{ volumes: [{ name: x, projected: { sources: [{ secret: { name: y } }] } }] }',
      'a volume with a Secret',
    ],
    [
      'a variable of a Secret',
      proxy('env: [{ name: X, valueFrom: { secretKeyRef: { name: y, key: z } } }]'),
      'a variable from a Secret',
    ],
    ['variables of a Secret', proxy('envFrom: [{ secretRef: { name: y } }]'), 'from a Secret'],
  ])('rights are refused: %s', (_name, pod, problem) => {
    const result = made({ deployment: `spec: { template: { spec: ${pod} } }` });
    expect(result.ok ? '' : result.problems.join('\n')).toContain(problem);
  });

  test('a sidecar as confined as the proxy, and volumes without rights, are taken', () => {
    const confined =
      'allowPrivilegeEscalation: false, runAsNonRoot: true, capabilities: { drop: [ALL] }, seccompProfile: { type: RuntimeDefault }';
    const pod = `{ containers: [{ name: x, image: y, securityContext: { ${confined} } }], volumes: [{ name: v, emptyDir: {} }, { name: c, configMap: { name: d } }] }`;
    expect(made({ deployment: `spec: { template: { spec: ${pod} } }` })).toMatchObject({
      ok: true,
    });
  });

  test.each([
    [
      'another kind',
      { horizontalPodAutoscaler: '{}' },
      'data.horizontalPodAutoscaler: is not known',
    ],
    ['no YAML', { deployment: '{' }, 'data.deployment: '],
    ['no mapping', { deployment: '[]' }, 'must be a YAML mapping'],
    ['its name', { deployment: 'metadata: { name: other }' }, 'metadata.name cannot be changed'],
    ['its owner', { service: 'metadata: { ownerReferences: null }' }, 'ownerReferences cannot be'],
    ['its selector', { service: 'spec: { selector: { app: x } }' }, 'spec.selector cannot be'],
    [
      'its port',
      { service: 'spec: { ports: [{ port: 15008, $patch: delete }] }' },
      'spec.ports must have 15008',
    ],
    [
      'its identity',
      { deployment: 'spec: { template: { spec: { serviceAccountName: admin } } }' },
      'serviceAccountName cannot be',
    ],
    [
      'the namespaces of the node',
      { deployment: 'spec: { template: { spec: { hostNetwork: true } } }' },
      'hostNetwork is not allowed',
    ],
    [
      'the files of the node',
      {
        deployment:
          'spec: { template: { spec: { volumes: [{ name: x, hostPath: { path: / } }] } } }',
      },
      'hostPath is not allowed',
    ],
    [
      'privileges',
      {
        deployment:
          'spec: { template: { spec: { containers: [{ name: x, securityContext: { privileged: true } }] } } }',
      },
      'without privileges',
    ],
  ])('%s is refused by its key', (_name, data, problem) => {
    const result = made(data);
    const problems = result.ok ? [] : result.problems;
    for (const one of problems) expect(one).toMatch(/^ConfigMap shop\/overlay: data\./);
    expect(problems.join('\n')).toContain(problem);
  });

  test('a ConfigMap that is not there', () => {
    expect(customized([], 'shop/overlay', { kind: 'missing' })).toEqual({
      ok: false,
      problems: ['ConfigMap shop/overlay: is not there'],
    });
  });
});

test('a merge takes away, replaces and adds as Kubernetes has it', () => {
  const base = { a: 1, b: { c: 1, d: 2 }, args: ['x'], containers: [{ name: 'a', image: 'i' }] };
  expect(
    merged(base, {
      a: null,
      b: { c: null, e: 3 },
      args: ['y'],
      containers: [{ name: 'b' }, { name: 'a', $patch: 'delete' }],
    }),
  ).toEqual({ b: { d: 2, e: 3 }, args: ['y'], containers: [{ name: 'b' }] });
  expect(merged(base, { b: { $patch: 'replace', z: 1 } })).toMatchObject({ b: { z: 1 } });
  const hostile = merged({}, JSON.parse('{"__proto__":{"polluted":1}}')) as object;
  expect('polluted' in {}).toBe(false);
  expect(Object.keys(hostile)).toEqual(['__proto__']);
});
