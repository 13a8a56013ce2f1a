import type { ApiContext, ResourceCall } from './context.ts';
import { admit, asVersion, checkFields, schemaOf } from './convert.ts';
import { destination, isDryRun, managerOf, writeOptions } from './call.ts';
import { badRequest, isApiError, notFound } from './errors.ts';
import { decodeObject, sendJson } from './http.ts';
import type { JsonObject, KubeObject } from './object.ts';
import { kubeTime, numberAt, stringAt } from './object.ts';
import { applyObject, patchedObject } from './patch.ts';
import { requireObject, selectorOf, sendObject } from './read.ts';
import { joinApiVersion } from './registry.ts';
import type { DeleteOptions } from './resource-store.ts';
import { trackUpdate } from '../schema/index.ts';

const propagationPolicies = ['Background', 'Foreground', 'Orphan'] as const;

export function create(context: ApiContext, call: ResourceCall): void {
  const { object, warnings } = admit(
    decodeObject(call.body, call.contentType),
    destination(call, undefined),
  );
  if (object.metadata.resourceVersion !== undefined && object.metadata.resourceVersion !== '') {
    throw badRequest('resourceVersion should not be set on objects to be created');
  }
  const tracked = track(context, call, undefined, object);
  warn(call, warnings);
  sendObject(context, call, context.store.create(call.route.key, tracked, writeOptions(call)), 201);
}

export function update(context: ApiContext, call: ResourceCall): void {
  const { object, warnings } = admit(
    decodeObject(call.body, call.contentType),
    destination(call, call.route.name),
  );
  const before = requireObject(context, call);
  warn(call, warnings);
  sendObject(
    context,
    call,
    context.store.update(call.route.key, track(context, call, before, object), writeOptions(call)),
  );
}

export function patch(context: ApiContext, call: ResourceCall): void {
  const { route, definition } = call;
  const { key, namespace, name = '' } = route;
  const stored = context.store.get(key, namespace, name);
  const live = stored === undefined ? undefined : asVersion(stored, definition, route.version);
  if (call.contentType.startsWith('application/apply-patch')) {
    apply(context, call, live);
    return;
  }
  if (live === undefined) throw notFound(key, name);
  const patched = patchedObject(call, live, schemaOf(definition, route.version));
  const { object, warnings } = admit(patched, destination(call, name));
  warn(call, warnings);
  sendObject(
    context,
    call,
    context.store.update(key, track(context, call, live, object), writeOptions(call)),
  );
}

function apply(context: ApiContext, call: ResourceCall, live: KubeObject | undefined): void {
  const { route, definition } = call;
  const { key, name = '' } = route;
  const applied = decodeObject(call.body, 'application/yaml');
  const warnings = checkFields(applied, destination(call, name));
  if (route.subresource !== undefined && live === undefined) throw notFound(key, name);
  const merged = applyObject({
    call,
    live,
    applied: withIdentity(applied, call),
    schema: schemaOf(definition, route.version),
    apiVersion: joinApiVersion(key.group, route.version),
    ignored: ignoredFields(call),
    now: kubeTime(context.now()),
  });
  warn(call, warnings);
  const { object } = admit(merged, { ...destination(call, name), validation: 'Ignore' });
  if (live === undefined) {
    sendObject(context, call, context.store.create(key, object, writeOptions(call)), 201);
    return;
  }
  sendObject(context, call, context.store.update(key, object, writeOptions(call)));
}

function withIdentity(applied: JsonObject, { route, definition }: ResourceCall): JsonObject {
  const metadata = applied['metadata'] as JsonObject | undefined;
  return {
    ...applied,
    apiVersion: applied['apiVersion'] ?? joinApiVersion(definition.key.group, route.version),
    kind: applied['kind'] ?? definition.kind,
    metadata: {
      ...metadata,
      name: route.name,
      ...(route.namespace === undefined || !definition.namespaced
        ? {}
        : { namespace: route.namespace }),
    },
  };
}

/** `DELETE` of one object: the object where it stays for now, a Status where it is gone. */
export function remove(context: ApiContext, call: ResourceCall): void {
  const { key, namespace, name = '' } = call.route;
  const options = deleteOptions(call);
  const before = requireObject(context, call);
  if (isDryRun(call)) {
    sendObject(context, call, before);
    return;
  }
  const { object, gone } = context.store.delete(key, namespace, name, options);
  if (!gone || key.resource === 'pods') {
    sendObject(context, call, object);
    return;
  }
  sendJson(call.response, 200, {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Success',
    details: {
      name,
      ...(key.group === '' ? {} : { group: key.group }),
      kind: key.resource,
      uid: object.metadata.uid,
    },
  });
}

export function removeCollection(context: ApiContext, call: ResourceCall): void {
  const { key, namespace } = call.route;
  const options = deleteOptions(call);
  const { items, resourceVersion } = context.store.list(key, namespace, selectorOf(call));
  for (const { metadata } of isDryRun(call) ? [] : items) {
    try {
      context.store.delete(key, metadata.namespace, metadata.name, options);
    } catch (error) {
      // An object of the list may have gone with an owner that was deleted just before it.
      if (!isApiError(error, 'NotFound')) throw error;
    }
  }
  sendJson(call.response, 200, {
    kind: call.definition.listKind,
    apiVersion: joinApiVersion(key.group, call.route.version),
    metadata: { resourceVersion },
    items: items.map((item) => asVersion(item, call.definition, call.route.version)),
  });
}

function deleteOptions({ body, contentType, query }: ResourceCall): DeleteOptions {
  const sent = body.length === 0 ? {} : decodeObject(body, contentType);
  const policy = stringAt(sent, 'propagationPolicy') ?? query.get('propagationPolicy') ?? undefined;
  const known = propagationPolicies.find((one) => one === policy);
  if (policy !== undefined && known === undefined) {
    throw badRequest(
      `propagationPolicy must be one of ${propagationPolicies.join(', ')}, not ${policy}`,
    );
  }
  const grace = query.get('gracePeriodSeconds');
  const legacyOrphan = sent['orphanDependents'] === true ? 'Orphan' : undefined;
  return {
    gracePeriodSeconds:
      numberAt(sent, 'gracePeriodSeconds') ?? (grace === null ? undefined : Number(grace)),
    uid: stringAt(sent, 'preconditions', 'uid'),
    resourceVersion: stringAt(sent, 'preconditions', 'resourceVersion'),
    propagationPolicy: known ?? legacyOrphan,
  };
}

function ignoredFields({ definition, route }: ResourceCall): readonly (readonly string[])[] {
  if (route.subresource === 'status') return [['spec'], ['metadata']];
  return definition.versions.some(({ status }) => status) ? [['status']] : [];
}

function track(
  context: ApiContext,
  call: ResourceCall,
  before: KubeObject | undefined,
  after: KubeObject,
): KubeObject {
  const { definition, route } = call;
  const tracked = trackUpdate({
    before: before === undefined ? undefined : asVersion(before, definition, route.version),
    after,
    manager: managerOf(call),
    schema: schemaOf(definition, route.version),
    apiVersion: joinApiVersion(definition.key.group, route.version),
    subresource: route.subresource,
    now: kubeTime(context.now()),
    ignored: ignoredFields(call),
  });
  return tracked as unknown as KubeObject;
}

function warn({ response }: ResourceCall, warnings: readonly string[]): void {
  if (warnings.length === 0) return;
  response.setHeader(
    'warning',
    warnings.map(
      (text) => `299 - "${text.replaceAll(/["\\]/g, '\\$&').replaceAll(/[^\x20-\x7e]/g, '?')}"`,
    ),
  );
}
