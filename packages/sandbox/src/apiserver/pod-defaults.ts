import type { JsonObject } from './object.ts';
import { isObject, objectAt, objectsAt, stringAt } from './object.ts';

/** Sets each field that is absent. */
export function fill(target: JsonObject, defaults: JsonObject): void {
  for (const [field, value] of Object.entries(defaults)) target[field] ??= structuredClone(value);
}

/** The defaults of a pod's spec, in a Pod or in a template. */
export function defaultPodSpec(spec: JsonObject): void {
  fill(spec, {
    restartPolicy: 'Always',
    dnsPolicy: 'ClusterFirst',
    schedulerName: 'default-scheduler',
    terminationGracePeriodSeconds: 30,
    securityContext: {},
  });
  const account = spec['serviceAccountName'] ?? spec['serviceAccount'];
  if (account !== undefined && account !== '')
    fill(spec, { serviceAccountName: account, serviceAccount: account });
  for (const container of [
    ...objectsAt(spec, 'containers'),
    ...objectsAt(spec, 'initContainers'),
  ]) {
    defaultContainer(container, spec['hostNetwork'] === true);
  }
  for (const volume of objectsAt(spec, 'volumes')) defaultVolume(volume);
}

/** What a new Pod gets and a template does not. */
export function defaultNewPodSpec(spec: JsonObject): void {
  defaultPodSpec(spec);
  fill(spec, {
    serviceAccountName: 'default',
    serviceAccount: 'default',
    enableServiceLinks: true,
    preemptionPolicy: 'PreemptLowerPriority',
    priority: 0,
    tolerations: ['not-ready', 'unreachable'].map((state) => ({
      key: `node.kubernetes.io/${state}`,
      operator: 'Exists',
      effect: 'NoExecute',
      tolerationSeconds: 300,
    })),
  });
}

function defaultContainer(container: JsonObject, hostNetwork: boolean): void {
  const image = stringAt(container, 'image') ?? '';
  const tag = /:([^/@]+)$/.exec(image)?.[1];
  const latest = !image.includes('@') && (tag === undefined || tag === 'latest');
  fill(container, {
    imagePullPolicy: latest ? 'Always' : 'IfNotPresent',
    resources: {},
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'File',
  });
  for (const port of objectsAt(container, 'ports')) {
    fill(port, { protocol: 'TCP' });
    if (hostNetwork) fill(port, { hostPort: port['containerPort'] });
  }
  for (const name of ['livenessProbe', 'readinessProbe', 'startupProbe']) {
    const probe = container[name];
    if (!isObject(probe)) continue;
    fill(probe, { timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3 });
    const http = probe['httpGet'];
    if (isObject(http)) fill(http, { path: '/', scheme: 'HTTP' });
  }
  for (const variable of objectsAt(container, 'env')) {
    const field = objectAt(variable, 'valueFrom')['fieldRef'];
    if (isObject(field)) fill(field, { apiVersion: 'v1' });
  }
}

function defaultVolume(volume: JsonObject): void {
  for (const source of ['configMap', 'secret', 'downwardAPI', 'projected']) {
    const given = volume[source];
    if (isObject(given)) fill(given, { defaultMode: 420 });
  }
  if (isObject(volume['hostPath'])) fill(volume['hostPath'], { type: '' });
  for (const source of objectsAt(volume, 'projected', 'sources')) {
    if (isObject(source['serviceAccountToken']))
      fill(source['serviceAccountToken'], { expirationSeconds: 3600 });
    for (const item of objectsAt(source, 'downwardAPI', 'items')) {
      if (isObject(item['fieldRef'])) fill(item['fieldRef'], { apiVersion: 'v1' });
    }
  }
  const known = Object.keys(volume).filter((field) => field !== 'name');
  if (known.length === 0) volume['emptyDir'] = {};
}

/** The class by which a node under pressure chooses what to evict. */
export function podQualityOfService(spec: JsonObject): 'Guaranteed' | 'Burstable' | 'BestEffort' {
  const containers = [...objectsAt(spec, 'containers'), ...objectsAt(spec, 'initContainers')];
  const resources = containers.map((container) => ({
    requests: objectAt(container, 'resources', 'requests'),
    limits: objectAt(container, 'resources', 'limits'),
  }));
  const none = resources.every(
    ({ requests, limits }) =>
      Object.keys(requests).length === 0 && Object.keys(limits).length === 0,
  );
  if (none) return 'BestEffort';
  const guaranteed = resources.every(({ requests, limits }) =>
    ['cpu', 'memory'].every(
      (one) => limits[one] !== undefined && (requests[one] ?? limits[one]) === limits[one],
    ),
  );
  return guaranteed ? 'Guaranteed' : 'Burstable';
}
