import { randomBytes } from 'node:crypto';
import { prepareCrd } from './prepare-crd.ts';
import { defaultService, defaultWorkload } from './defaults.ts';
import type { FieldProblem } from './errors.ts';
import { forbiddenField, invalidValue, required } from './errors.ts';
import type { JsonObject, KubeObject } from './object.ts';
import {
  isObject,
  listAt,
  numberAt,
  objectAt,
  objectsAt,
  resourceName,
  sameJson,
  stringAt,
  valueAt,
} from './object.ts';
import { defaultNewPodSpec, defaultPodSpec, podQualityOfService } from './pod-defaults.ts';
import type { ResourceDefinition } from './registry.ts';
import { assignClusterAddresses } from './service-addresses.ts';
import type { ResourceStore } from './resource-store.ts';

/** What one resource does beyond what holds for all. */
export interface Strategy {
  /** Fills in what the API decides: defaults, allocations, carried-over fields. Changes the object. */
  prepare(object: KubeObject, before: KubeObject | undefined, store: ResourceStore): void;
  validate?(
    object: KubeObject,
    before: KubeObject | undefined,
    store: ResourceStore,
  ): readonly FieldProblem[];
  /** Seconds the object stays after it is deleted. */
  gracePeriod?(object: KubeObject, asked: number | undefined): number;
  beginDelete?(object: KubeObject): void;
  /** True while something other than a finalizer keeps a deleted object. */
  held?(object: KubeObject): boolean;
  /** A new object's status is taken as given. */
  readonly keepsStatus?: boolean;
}

const plain: Strategy = { prepare: () => undefined };

const pods: Strategy = {
  prepare: (pod, before, store) => {
    const spec = specOf(pod);
    if (before !== undefined) {
      defaultPodSpec(spec);
      return;
    }
    defaultNewPodSpec(spec);
    mountServiceAccountToken(pod, spec, store);
    pod['status'] = { phase: 'Pending', qosClass: podQualityOfService(spec) };
  },
  validate: (pod, before) => [
    ...(listAt(pod, 'spec', 'containers').length === 0 ? [required('spec.containers')] : []),
    ...(before === undefined ? [] : podChanges(pod, before)),
  ],
  gracePeriod: (pod, asked) => {
    const phase = stringAt(pod, 'status', 'phase');
    const unscheduled = (stringAt(pod, 'spec', 'nodeName') ?? '') === '';
    if (unscheduled || phase === 'Succeeded' || phase === 'Failed') return 0;
    return Math.max(0, asked ?? numberAt(pod, 'spec', 'terminationGracePeriodSeconds') ?? 30);
  },
};

/** A projected token volume in every container, as the service-account admission adds it. */
function mountServiceAccountToken(pod: KubeObject, spec: JsonObject, store: ResourceStore): void {
  const account = store.get(
    { group: '', resource: 'serviceaccounts' },
    pod.metadata.namespace,
    stringAt(spec, 'serviceAccountName') ?? 'default',
  );
  const wanted =
    spec['automountServiceAccountToken'] ?? account?.['automountServiceAccountToken'] ?? true;
  const mountPath = '/var/run/secrets/kubernetes.io/serviceaccount';
  if (wanted !== true) return;
  const name = `kube-api-access-${randomBytes(3).toString('hex')}`;
  const unmounted = [...objectsAt(spec, 'containers'), ...objectsAt(spec, 'initContainers')].filter(
    (container) =>
      !objectsAt(container, 'volumeMounts').some((mount) => mount['mountPath'] === mountPath),
  );
  if (unmounted.length === 0) return;
  for (const container of unmounted) {
    container['volumeMounts'] = [
      ...listAt(container, 'volumeMounts'),
      { name, readOnly: true, mountPath },
    ];
  }
  const field = { apiVersion: 'v1', fieldPath: 'metadata.namespace' };
  spec['volumes'] = [
    ...listAt(spec, 'volumes'),
    {
      name,
      projected: {
        defaultMode: 420,
        sources: [
          { serviceAccountToken: { expirationSeconds: 3607, path: 'token' } },
          { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
          { downwardAPI: { items: [{ path: 'namespace', fieldRef: field }] } },
        ],
      },
    },
  ];
}

const podChangeable = [
  'activeDeadlineSeconds',
  'tolerations',
  'terminationGracePeriodSeconds',
  'schedulingGates',
];

function podChanges(pod: KubeObject, before: KubeObject): FieldProblem[] {
  const fixed = (from: KubeObject): JsonObject => {
    const spec = structuredClone(objectAt(from, 'spec'));
    for (const field of podChangeable) Reflect.deleteProperty(spec, field);
    if (stringAt(before, 'spec', 'nodeName') === undefined) delete spec['nodeName'];
    for (const container of [
      ...objectsAt(spec, 'containers'),
      ...objectsAt(spec, 'initContainers'),
    ]) {
      Reflect.deleteProperty(container, 'image');
    }
    return spec;
  };
  if (sameJson(fixed(pod), fixed(before))) return [];
  return [
    forbiddenField(
      'spec',
      'pod updates may not change fields other than `spec.containers[*].image`,' +
        '`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing' +
        ' tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)',
    ),
  ];
}

const workloads: Strategy = {
  prepare: (object) => defaultWorkload(object.kind, specOf(object)),
  validate: (object, before) => {
    if (object.kind === 'Job' || object.kind === 'CronJob') return [];
    const selector = valueAt(object, 'spec', 'selector');
    const labels = objectAt(object, 'spec', 'template', 'metadata', 'labels');
    const wanted = Object.entries(objectAt(selector, 'matchLabels'));
    return [
      ...(selector === undefined ? [required('spec.selector')] : []),
      ...(wanted.some(([key, value]) => labels[key] !== value)
        ? [
            invalidValue(
              'spec.template.metadata.labels',
              labels,
              '`selector` does not match template `labels`',
            ),
          ]
        : []),
      ...immutable(object, before, ['spec', 'selector']),
      ...(listAt(object, 'spec', 'template', 'spec', 'containers').length === 0
        ? [required('spec.template.spec.containers')]
        : []),
    ];
  },
};

const services: Strategy = {
  prepare: (service, before, store) => {
    defaultService(specOf(service));
    assignClusterAddresses(service, before, store);
    if (before === undefined) service['status'] = { loadBalancer: {} };
  },
  validate: (service, before) => [
    ...(listAt(service, 'spec', 'ports').length === 0 &&
    stringAt(service, 'spec', 'type') !== 'ExternalName' &&
    stringAt(service, 'spec', 'clusterIP') !== 'None'
      ? [required('spec.ports')]
      : []),
    ...portProblems(service),
    ...(stringAt(before, 'spec', 'clusterIP') === undefined ||
    stringAt(before, 'spec', 'clusterIP') === ''
      ? []
      : immutable(service, before, ['spec', 'clusterIP'])),
  ],
};

function portProblems(service: KubeObject): FieldProblem[] {
  const ports = objectsAt(service, 'spec', 'ports');
  return ports.flatMap((port, index) => {
    const number = port['port'];
    const field = `spec.ports[${index}]`;
    return [
      ...(typeof number === 'number' && number >= 1 && number <= 65535
        ? []
        : [
            invalidValue(`${field}.port`, number ?? null, 'must be between 1 and 65535, inclusive'),
          ]),
      ...(ports.length > 1 && (stringAt(port, 'name') ?? '') === ''
        ? [required(`${field}.name`)]
        : []),
    ];
  });
}

const namespaces: Strategy = {
  prepare: (namespace, before) => {
    namespace.metadata.labels = {
      ...namespace.metadata.labels,
      'kubernetes.io/metadata.name': namespace.metadata.name,
    };
    namespace['spec'] = before?.['spec'] ?? { finalizers: ['kubernetes'] };
    if (before === undefined) namespace['status'] = { phase: 'Active' };
  },
  beginDelete: (namespace) => {
    namespace['status'] = { ...objectAt(namespace, 'status'), phase: 'Terminating' };
  },
  held: (namespace) => listAt(namespace, 'spec', 'finalizers').length > 0,
};

const configuration: Strategy = {
  prepare: (object) => {
    if (object.kind !== 'Secret') return;
    object['type'] ??= 'Opaque';
    const given = object['stringData'];
    if (!isObject(given)) return;
    const encoded = Object.entries(given).map(([key, value]) => [
      key,
      Buffer.from(String(value)).toString('base64'),
    ]);
    object['data'] = {
      ...objectAt(object, 'data'),
      ...(Object.fromEntries(encoded) as JsonObject),
    };
    delete object['stringData'];
  },
  validate: (object, before) => {
    if (before === undefined) return [];
    const fixed = before['immutable'] === true ? ['data', 'binaryData', 'immutable'] : [];
    return [
      ...fixed
        .filter((field) => !sameJson(object[field], before[field]))
        .map((field) => forbiddenField(field, 'field is immutable when `immutable` is set')),
      ...(object.kind === 'Secret' ? immutable(object, before, ['type']) : []),
    ];
  },
};

const bindings: Strategy = {
  prepare: (binding) => {
    const role = objectAt(binding, 'roleRef');
    role['apiGroup'] ??= 'rbac.authorization.k8s.io';
    for (const subject of objectsAt(binding, 'subjects')) {
      if (subject['kind'] === 'ServiceAccount') continue;
      subject['apiGroup'] ??= 'rbac.authorization.k8s.io';
    }
  },
  validate: (binding, before) => [
    ...(stringAt(binding, 'roleRef', 'name') === undefined ? [required('roleRef.name')] : []),
    ...(before === undefined || sameJson(binding['roleRef'], before['roleRef'])
      ? []
      : [invalidValue('roleRef', binding['roleRef'], 'cannot change roleRef')]),
  ],
};

const customResourceDefinitions: Strategy = {
  prepare: prepareCrd,
  validate: (crd, before) => [
    ...immutable(crd, before, ['spec', 'scope']),
    ...immutable(crd, before, ['spec', 'group']),
    ...immutable(crd, before, ['spec', 'names', 'plural']),
  ],
};

const strategies = new Map<string, Strategy>([
  ['customresourcedefinitions.apiextensions.k8s.io', customResourceDefinitions],
  ['pods', pods],
  ['services', services],
  ['namespaces', namespaces],
  ['nodes', { prepare: () => undefined, keepsStatus: true }],
  ['configmaps', configuration],
  ['secrets', configuration],
  ['deployments.apps', workloads],
  ['replicasets.apps', workloads],
  ['daemonsets.apps', workloads],
  ['statefulsets.apps', workloads],
  ['jobs.batch', workloads],
  ['rolebindings.rbac.authorization.k8s.io', bindings],
  ['clusterrolebindings.rbac.authorization.k8s.io', bindings],
]);

export function strategyOf(definition: ResourceDefinition): Strategy {
  return strategies.get(resourceName(definition.key)) ?? plain;
}

function immutable(
  object: KubeObject,
  before: KubeObject | undefined,
  path: readonly string[],
): FieldProblem[] {
  if (before === undefined) return [];
  const value = valueAt(object, ...path);
  return sameJson(value, valueAt(before, ...path))
    ? []
    : [invalidValue(path.join('.'), value ?? null, 'field is immutable')];
}

/** The object's spec to fill in; an empty one is made where none was given. */
function specOf(object: KubeObject): JsonObject {
  const spec = isObject(object['spec']) ? object['spec'] : {};
  object['spec'] = spec;
  return spec;
}
