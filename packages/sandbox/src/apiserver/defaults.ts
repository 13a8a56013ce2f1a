import type { JsonObject } from './object.ts';
import { isObject, objectsAt } from './object.ts';
import { defaultPodSpec, fill } from './pod-defaults.ts';

const rollingUpdate = {
  type: 'RollingUpdate',
  rollingUpdate: { maxSurge: '25%', maxUnavailable: '25%' },
};

const workloadDefaults = new Map<string, JsonObject>([
  [
    'Deployment',
    {
      replicas: 1,
      revisionHistoryLimit: 10,
      progressDeadlineSeconds: 600,
      strategy: rollingUpdate,
    },
  ],
  ['ReplicaSet', { replicas: 1 }],
  [
    'DaemonSet',
    {
      revisionHistoryLimit: 10,
      updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } },
    },
  ],
  [
    'StatefulSet',
    {
      replicas: 1,
      revisionHistoryLimit: 10,
      podManagementPolicy: 'OrderedReady',
      updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition: 0 } },
    },
  ],
  [
    'Job',
    {
      completions: 1,
      parallelism: 1,
      backoffLimit: 6,
      completionMode: 'NonIndexed',
      suspend: false,
    },
  ],
]);

/** The defaults of a workload's spec and of its pod template. */
export function defaultWorkload(kind: string, spec: JsonObject): void {
  fill(spec, workloadDefaults.get(kind) ?? {});
  const template = spec['template'];
  if (!isObject(template)) return;
  const metadata = isObject(template['metadata']) ? template['metadata'] : {};
  metadata['creationTimestamp'] ??= null;
  template['metadata'] = metadata;
  if (isObject(template['spec'])) defaultPodSpec(template['spec']);
}

/** The defaults of a Service's spec. */
export function defaultService(spec: JsonObject): void {
  fill(spec, { type: 'ClusterIP', sessionAffinity: 'None' });
  if (spec['type'] !== 'ExternalName') fill(spec, { internalTrafficPolicy: 'Cluster' });
  if (spec['type'] === 'LoadBalancer') fill(spec, { allocateLoadBalancerNodePorts: true });
  if (spec['type'] === 'NodePort' || spec['type'] === 'LoadBalancer')
    fill(spec, { externalTrafficPolicy: 'Cluster' });
  for (const port of objectsAt(spec, 'ports'))
    fill(port, { protocol: 'TCP', targetPort: port['port'] });
}
