import type { JsonObject, KubeObject } from './object.ts';
import type { ResourceStore } from './resource-store.ts';

const group = 'rbac.authorization.k8s.io';
const readVerbs = ['get', 'list', 'watch'];
const writeVerbs = ['create', 'delete', 'deletecollection', 'patch', 'update'];
const everything = ['*'];

const namespacedGroups = [
  '',
  'apps',
  'autoscaling',
  'batch',
  'discovery.k8s.io',
  'networking.k8s.io',
  'policy',
  'events.k8s.io',
];
const viewable = [
  'configmaps', 'endpoints', 'endpointslices', 'events', 'limitranges', 'namespaces', 'namespaces/status',
  'persistentvolumeclaims', 'pods', 'pods/log', 'pods/status', 'replicationcontrollers', 'resourcequotas',
  'serviceaccounts', 'services', 'services/status', 'daemonsets', 'deployments', 'deployments/scale', 'replicasets',
  'replicasets/scale', 'statefulsets', 'statefulsets/scale', 'controllerrevisions', 'horizontalpodautoscalers',
  'cronjobs', 'jobs', 'ingresses', 'networkpolicies', 'poddisruptionbudgets',
]; // prettier-ignore
const editable = [
  'configmaps', 'endpoints', 'events', 'persistentvolumeclaims', 'pods', 'pods/attach', 'pods/eviction', 'pods/exec',
  'pods/portforward', 'replicationcontrollers', 'secrets', 'serviceaccounts', 'serviceaccounts/token', 'services',
  'daemonsets', 'deployments', 'deployments/scale', 'replicasets', 'replicasets/scale', 'statefulsets',
  'statefulsets/scale', 'horizontalpodautoscalers', 'cronjobs', 'jobs', 'ingresses', 'networkpolicies',
  'poddisruptionbudgets',
]; // prettier-ignore

const view = [{ apiGroups: namespacedGroups, resources: viewable, verbs: readVerbs }];
const edit = [
  ...view,
  { apiGroups: namespacedGroups, resources: editable, verbs: [...readVerbs, ...writeVerbs] },
];
const admin = [
  ...edit,
  {
    apiGroups: [group],
    resources: ['roles', 'rolebindings'],
    verbs: [...readVerbs, ...writeVerbs],
  },
  {
    apiGroups: ['authorization.k8s.io'],
    resources: ['localsubjectaccessreviews'],
    verbs: ['create'],
  },
];

const discoveryPaths = [
  '/api',
  '/api/*',
  '/apis',
  '/apis/*',
  '/healthz',
  '/livez',
  '/openapi',
  '/openapi/*',
  '/readyz',
  '/version',
  '/version/',
];

const roles: Readonly<Record<string, readonly JsonObject[]>> = {
  'cluster-admin': [
    { apiGroups: everything, resources: everything, verbs: everything },
    { nonResourceURLs: everything, verbs: everything },
  ],
  admin,
  edit,
  view,
  'system:discovery': [{ nonResourceURLs: discoveryPaths, verbs: ['get'] }],
  'system:basic-user': [
    {
      apiGroups: ['authorization.k8s.io'],
      resources: ['selfsubjectaccessreviews', 'selfsubjectrulesreviews'],
      verbs: ['create'],
    },
    { apiGroups: ['authentication.k8s.io'], resources: ['selfsubjectreviews'], verbs: ['create'] },
  ],
  'system:public-info-viewer': [
    { nonResourceURLs: ['/healthz', '/livez', '/readyz', '/version'], verbs: ['get'] },
  ],
  'system:service-account-issuer-discovery': [
    {
      nonResourceURLs: ['/.well-known/openid-configuration', '/openid/v1/jwks', '/openid/v1/jwks/'],
      verbs: ['get'],
    },
  ],
  'system:auth-delegator': [
    { apiGroups: ['authentication.k8s.io'], resources: ['tokenreviews'], verbs: ['create'] },
    { apiGroups: ['authorization.k8s.io'], resources: ['subjectaccessreviews'], verbs: ['create'] },
  ],
};

const boundGroups: Readonly<Record<string, string>> = {
  'cluster-admin': 'system:masters',
  'system:discovery': 'system:authenticated',
  'system:basic-user': 'system:authenticated',
  'system:public-info-viewer': 'system:authenticated',
  'system:service-account-issuer-discovery': 'system:serviceaccounts',
};

/** The ClusterRoles and bindings every cluster has; what is there already is left as it is. */
export function ensureBootstrapRoles(store: ResourceStore): void {
  const labels = { 'kubernetes.io/bootstrapping': 'rbac-defaults' };
  const ensure = (resource: string, kind: string, name: string, content: JsonObject): void => {
    if (store.get({ group, resource }, undefined, name) !== undefined) return;
    const object: KubeObject = {
      apiVersion: `${group}/v1`,
      kind,
      metadata: { name, labels },
      ...content,
    };
    store.create({ group, resource }, object);
  };
  for (const [name, rules] of Object.entries(roles))
    ensure('clusterroles', 'ClusterRole', name, { rules });
  for (const [name, subject] of Object.entries(boundGroups)) {
    ensure('clusterrolebindings', 'ClusterRoleBinding', name, {
      roleRef: { apiGroup: group, kind: 'ClusterRole', name },
      subjects: [{ apiGroup: group, kind: 'Group', name: subject }],
    });
  }
}
