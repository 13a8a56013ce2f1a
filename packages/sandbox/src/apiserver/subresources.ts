import { managerOf, writeOptions } from './call.ts';
import type { ApiContext, PodStreamRequest, ResourceCall } from './context.ts';
import { schemaOf } from './convert.ts';
import { ApiError, badRequest, methodNotAllowed, pathNotFound } from './errors.ts';
import { decodeObject, sendJson } from './http.ts';
import { valuesAtPath } from './json-path.ts';
import type { JsonObject, KubeObject } from './object.ts';
import { isObject, kubeTime, numberAt, objectAt, stringAt, stringsAt } from './object.ts';
import { patchedObject } from './patch.ts';
import { requireObject } from './read.ts';
import { joinApiVersion } from './registry.ts';
import { builtinSchema, trackUpdate } from '../schema/index.ts';

export const podStreams = ['log', 'exec', 'attach', 'portforward'] as const;

export function podStreamOf(
  subresource: string | undefined,
): PodStreamRequest['subresource'] | undefined {
  return podStreams.find((one) => one === subresource);
}

/** Hands a pod's stream to the kubelet's side. @throws ApiError where nothing there answers */
export function streamPod(context: ApiContext, request: PodStreamRequest): void {
  if (context.kubeletProxy === undefined) {
    throw new ApiError(
      503,
      'ServiceUnavailable',
      `no kubelet answers for pods/${request.subresource}`,
    );
  }
  context.kubeletProxy(request);
}

/** `scale`: the replicas of a workload or of a custom resource that says where they are. */
export function scale(context: ApiContext, call: ResourceCall): void {
  const { definition, route, method } = call;
  const paths = definition.versions.find(({ name }) => name === route.version)?.scale;
  if (paths === undefined) throw pathNotFound();
  const object = requireObject(context, call);
  const current = scaleObject(object, paths);
  if (method === 'GET') {
    sendJson(call.response, 200, current);
    return;
  }
  const sent = sentScale(call, current);
  const replicas = numberAt(sent, 'spec', 'replicas') ?? 0;
  if (!Number.isInteger(replicas) || replicas < 0) {
    throw badRequest(`spec.replicas must be a whole number from 0, not ${String(replicas)}`);
  }
  const version = stringAt(sent, 'metadata', 'resourceVersion');
  const { metadata } = object;
  const after = setAtPath(
    {
      ...object,
      metadata: version === undefined ? metadata : { ...metadata, resourceVersion: version },
    },
    paths.spec.split('.').filter((field) => field !== ''),
    replicas,
  );
  const tracked = trackUpdate({
    before: object,
    after,
    manager: managerOf(call),
    schema: schemaOf(definition, definition.storageVersion),
    apiVersion: joinApiVersion(definition.key.group, route.version),
    subresource: 'scale',
    now: kubeTime(context.now()),
  }) as unknown as KubeObject;
  const { dryRun } = writeOptions(call);
  const updated = context.store.update(route.key, tracked, { dryRun });
  sendJson(call.response, 200, scaleObject(updated, paths));
}

function sentScale(call: ResourceCall, current: KubeObject): JsonObject {
  switch (call.method) {
    case 'PUT':
      return decodeObject(call.body, call.contentType);
    case 'PATCH': {
      const definition = { ...call.definition, custom: false };
      return patchedObject(
        { ...call, definition },
        current,
        builtinSchema('autoscaling', 'v1', 'Scale'),
      );
    }
    default:
      throw methodNotAllowed();
  }
}

function scaleObject(
  object: KubeObject,
  paths: { spec: string; status: string; selector?: string },
): KubeObject {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const selector =
    paths.selector === undefined ? undefined : valuesAtPath(object, paths.selector)[0];
  const matchLabels = isObject(selector) ? objectAt(selector, 'matchLabels') : {};
  const text = Object.entries(matchLabels).map(([key, value]) => `${key}=${String(value)}`);
  const count = (path: string): number => {
    const [found] = valuesAtPath(object, path);
    return typeof found === 'number' ? found : 0;
  };
  const metadata = {
    name,
    namespace,
    uid,
    resourceVersion,
    creationTimestamp,
  } as KubeObject['metadata'];
  const shownSelector = typeof selector === 'string' ? selector : text.join(',');
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata,
    spec: { replicas: count(paths.spec) },
    status: {
      replicas: count(paths.status),
      ...(shownSelector === '' ? {} : { selector: shownSelector }),
    },
  };
}

function setAtPath(object: KubeObject, path: readonly string[], value: unknown): KubeObject {
  const copy = structuredClone(object);
  let target: JsonObject = copy;
  for (const field of path.slice(0, -1)) {
    const next = isObject(target[field]) ? target[field] : {};
    target[field] = next;
    target = next;
  }
  target[path.at(-1) ?? 'replicas'] = value;
  return copy;
}

/** `serviceaccounts/token`: signs a token, bound to a pod where asked. */
export function requestToken(context: ApiContext, call: ResourceCall): void {
  const { namespace = '', name = '' } = call.route;
  const sent = decodeObject(call.body, call.contentType);
  const bound = objectAt(sent, 'spec', 'boundObjectRef');
  const isBound = stringAt(bound, 'name') !== undefined;
  if (isBound && stringAt(bound, 'kind') !== 'Pod') {
    throw badRequest(`spec.boundObjectRef.kind must be Pod, not ${String(bound['kind'])}`);
  }
  const uid = stringAt(bound, 'uid');
  const seconds = numberAt(sent, 'spec', 'expirationSeconds') ?? 3600;
  const audiences = stringsAt(sent, 'spec', 'audiences');
  const minted = context.tokens.mint({
    namespace,
    serviceAccount: name,
    audiences,
    expirationSeconds: seconds,
    ...(isBound
      ? { boundPod: { name: stringAt(bound, 'name') ?? '', ...(uid === undefined ? {} : { uid }) } }
      : {}),
  });
  sendJson(call.response, 201, {
    kind: 'TokenRequest',
    apiVersion: 'authentication.k8s.io/v1',
    metadata: { name, namespace, creationTimestamp: kubeTime(context.now()) },
    spec: {
      audiences: audiences.length === 0 ? [context.tokens.issuer] : audiences,
      expirationSeconds: seconds,
      boundObjectRef: isBound ? bound : null,
    },
    status: { token: minted.token, expirationTimestamp: kubeTime(minted.expiresAtMs) },
  });
}

/** `pods/eviction`: a graceful delete; disruption budgets are stored and not counted. */
export function evict(context: ApiContext, call: ResourceCall): void {
  const { key, namespace, name = '' } = call.route;
  const sent = call.body.length === 0 ? {} : decodeObject(call.body, call.contentType);
  const { dryRun } = writeOptions(call);
  requireObject(context, call);
  if (dryRun !== true) {
    context.store.delete(key, namespace, name, {
      gracePeriodSeconds: numberAt(sent, 'deleteOptions', 'gracePeriodSeconds'),
    });
  }
  sendJson(call.response, 201, {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Success',
  });
}

/** `namespaces/finalize`: lets a namespace go by force, once nothing is named that holds it. */
export function finalize(context: ApiContext, call: ResourceCall): void {
  if (call.method !== 'PUT') throw methodNotAllowed();
  const object = requireObject(context, call);
  const sent = decodeObject(call.body, call.contentType);
  const free = stringsAt(sent, 'spec', 'finalizers').length === 0;
  if (free && object.metadata.deletionTimestamp !== undefined) {
    context.store.finalizeNamespace(object.metadata.name);
  }
  sendJson(call.response, 200, object);
}
