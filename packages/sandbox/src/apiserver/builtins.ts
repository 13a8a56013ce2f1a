import type { ResourceDefinition } from './registry.ts';
import { storedVerbs } from './registry.ts';

interface Row {
  readonly short?: readonly string[];
  readonly all?: true;
  readonly cluster?: true;
  readonly status?: true;
  readonly scale?: true;
  /** Answered on the spot and never stored. */
  readonly virtual?: true;
  readonly sub?: ResourceDefinition['subresources'];
}

const scalePaths = {
  spec: '.spec.replicas',
  status: '.status.replicas',
  selector: '.spec.selector',
};

const podSubresources = [
  { name: 'attach', kind: 'PodAttachOptions', verbs: ['create', 'get'] },
  { name: 'eviction', kind: 'Eviction', verbs: ['create'] },
  { name: 'exec', kind: 'PodExecOptions', verbs: ['create', 'get'] },
  { name: 'log', kind: 'Pod', verbs: ['get'] },
  { name: 'portforward', kind: 'PodPortForwardOptions', verbs: ['create', 'get'] },
];

const tokenSubresource = [{ name: 'token', kind: 'TokenRequest', verbs: ['create'] }];

function group(
  name: string,
  version: string,
  rows: readonly [string, string, Row?][],
): ResourceDefinition[] {
  return rows.map(([resource, kind, row = {}]) => ({
    key: { group: name, resource },
    kind,
    listKind: `${kind}List`,
    singular: kind.toLowerCase(),
    shortNames: row.short ?? [],
    categories: row.all === true ? ['all'] : [],
    namespaced: row.cluster !== true,
    verbs: row.virtual === true ? ['create'] : storedVerbs,
    storageVersion: version,
    versions: [
      {
        name: version,
        served: true,
        status: row.status === true,
        ...(row.scale === true ? { scale: scalePaths } : {}),
      },
    ],
    custom: false,
    subresources: row.sub ?? [],
  }));
}

const virtual = { cluster: true, virtual: true } as const;

/** Every resource the API serves of itself; jobs, autoscalers, ingresses and policies are stored and nothing more. */
export const builtinResources: readonly ResourceDefinition[] = [
  ...group('', 'v1', [
    ['configmaps', 'ConfigMap', { short: ['cm'] }],
    ['endpoints', 'Endpoints', { short: ['ep'] }],
    ['events', 'Event', { short: ['ev'] }],
    ['limitranges', 'LimitRange', { short: ['limits'] }],
    ['namespaces', 'Namespace', { short: ['ns'], cluster: true, status: true }],
    ['nodes', 'Node', { short: ['no'], cluster: true, status: true }],
    ['persistentvolumeclaims', 'PersistentVolumeClaim', { short: ['pvc'], status: true }],
    ['pods', 'Pod', { short: ['po'], all: true, status: true, sub: podSubresources }],
    ['replicationcontrollers', 'ReplicationController', { short: ['rc'], all: true, status: true }],
    ['resourcequotas', 'ResourceQuota', { short: ['quota'], status: true }],
    ['secrets', 'Secret'],
    ['serviceaccounts', 'ServiceAccount', { short: ['sa'], sub: tokenSubresource }],
    ['services', 'Service', { short: ['svc'], all: true, status: true }],
  ]),
  ...group('apps', 'v1', [
    ['daemonsets', 'DaemonSet', { short: ['ds'], all: true, status: true }],
    ['deployments', 'Deployment', { short: ['deploy'], all: true, status: true, scale: true }],
    ['replicasets', 'ReplicaSet', { short: ['rs'], all: true, status: true, scale: true }],
    ['statefulsets', 'StatefulSet', { short: ['sts'], all: true, status: true, scale: true }],
    ['controllerrevisions', 'ControllerRevision'],
  ]),
  ...group('batch', 'v1', [
    ['cronjobs', 'CronJob', { short: ['cj'], all: true, status: true }],
    ['jobs', 'Job', { all: true, status: true }],
  ]),
  ...group('autoscaling', 'v2', [
    [
      'horizontalpodautoscalers',
      'HorizontalPodAutoscaler',
      { short: ['hpa'], all: true, status: true },
    ],
  ]),
  ...group('policy', 'v1', [
    ['poddisruptionbudgets', 'PodDisruptionBudget', { short: ['pdb'], status: true }],
  ]),
  ...group('networking.k8s.io', 'v1', [
    ['ingresses', 'Ingress', { short: ['ing'], status: true }],
    ['ingressclasses', 'IngressClass', { cluster: true }],
    ['networkpolicies', 'NetworkPolicy', { short: ['netpol'] }],
  ]),
  ...group('discovery.k8s.io', 'v1', [['endpointslices', 'EndpointSlice']]),
  ...group('coordination.k8s.io', 'v1', [['leases', 'Lease']]),
  ...group('events.k8s.io', 'v1', [['events', 'Event', { short: ['ev'] }]]),
  ...group('rbac.authorization.k8s.io', 'v1', [
    ['clusterrolebindings', 'ClusterRoleBinding', { cluster: true }],
    ['clusterroles', 'ClusterRole', { cluster: true }],
    ['rolebindings', 'RoleBinding'],
    ['roles', 'Role'],
  ]),
  ...group('apiextensions.k8s.io', 'v1', [
    [
      'customresourcedefinitions',
      'CustomResourceDefinition',
      { short: ['crd', 'crds'], cluster: true, status: true },
    ],
  ]),
  ...group('admissionregistration.k8s.io', 'v1', [
    ['mutatingwebhookconfigurations', 'MutatingWebhookConfiguration', { cluster: true }],
    ['validatingwebhookconfigurations', 'ValidatingWebhookConfiguration', { cluster: true }],
  ]),
  ...group('authentication.k8s.io', 'v1', [
    ['selfsubjectreviews', 'SelfSubjectReview', virtual],
    ['tokenreviews', 'TokenReview', virtual],
  ]),
  ...group('authorization.k8s.io', 'v1', [
    ['localsubjectaccessreviews', 'LocalSubjectAccessReview', { virtual: true }],
    ['selfsubjectaccessreviews', 'SelfSubjectAccessReview', virtual],
    ['subjectaccessreviews', 'SubjectAccessReview', virtual],
  ]),
];
