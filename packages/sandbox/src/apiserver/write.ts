import type { ApiContext, ResourceCall } from './context.ts';
import { admit, asVersion, checkFields, schemaOf } from './convert.ts';
import { destination, isDryRun, managerOf, writeOptions } from './call.ts';
import { badRequest, conflict, isApiError, modifiedMessage, notFound } from './errors.ts';
import { decodeObject, sendJson } from './http.ts';
import type { JsonObject, KubeObject } from './object.ts';
import { kubeTime, numberAt, stringAt } from './object.ts';
import { applyObject, patchedObject } from './patch.ts';
import { requireObject, selectorOf, sendObject } from './read.ts';
import { joinApiVersion } from './registry.ts';
import type { DeleteOptions } from './resource-store.ts';
import { askWebhooks, webhooksFor } from './webhooks.ts';
import { trackUpdate } from '../schema/index.ts';

const propagationPolicies = ['Background', 'Foreground', 'Orphan'] as const;

export async function create(context: ApiContext, call: ResourceCall): Promise<void> {
  await write(context, call, () => {
    const { object, warnings } = admit(
      decodeObject(call.body, call.contentType),
      destination(call, undefined),
    );
    if (object.metadata.resourceVersion !== undefined && object.metadata.resourceVersion !== '') {
      throw badRequest('resourceVersion should not be set on objects to be created');
    }
    return { before: undefined, after: track(context, call, undefined, object), warnings };
  });
}

export async function update(context: ApiContext, call: ResourceCall): Promise<void> {
  await write(context, call, () => {
    const { object, warnings } = admit(
      decodeObject(call.body, call.contentType),
      destination(call, call.route.name),
    );
    const before = requireObject(context, call);
    return { before, after: track(context, call, before, object), warnings };
  });
}

export async function patch(context: ApiContext, call: ResourceCall): Promise<void> {
  const { route, definition } = call;
  const { key, namespace, name = '' } = route;
  await write(context, call, () => {
    const stored = context.store.get(key, namespace, name);
    const live = stored === undefined ? undefined : asVersion(stored, definition, route.version);
    if (call.contentType.startsWith('application/apply-patch')) return applied(context, call, live);
    if (live === undefined) throw notFound(key, name);
    const patched = patchedObject(call, live, schemaOf(definition, route.version));
    const { object, warnings } = admit(patched, destination(call, name));
    return { before: live, after: track(context, call, live, object), warnings };
  });
}

/** What a call makes of what is stored. */
interface Prepared {
  /** Undefined for a new object. */
  readonly before: KubeObject | undefined;
  readonly after: KubeObject;
  readonly warnings: readonly string[];
}

const maxTries = 5;

/** Prepares and stores in one step, or anew when somebody else wrote while webhooks were asked. */
async function write(
  context: ApiContext,
  call: ResourceCall,
  prepare: () => Prepared,
): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    const prepared = prepare();
    const { before, after, warnings } = prepared;
    const operation = before === undefined ? 'CREATE' : 'UPDATE';
    const webhooks = webhooksFor(context, call, { operation, before, after });
    if (webhooks.length === 0) {
      store(context, call, prepared);
      return;
    }
    const told = await askWebhooks(context, call, webhooks, { operation, before, after });
    if (isAsPrepared(context, call, prepared)) {
      store(context, call, { ...prepared, warnings: [...warnings, ...told] });
      return;
    }
    const { key, name = '' } = call.route;
    if (attempt === maxTries) throw conflict(key, name, modifiedMessage);
  }
}

function isAsPrepared(
  context: ApiContext,
  call: ResourceCall,
  { before, after }: Prepared,
): boolean {
  const { key, namespace, name = after.metadata.name } = call.route;
  const now = name === '' ? undefined : context.store.get(key, namespace, name);
  return now?.metadata.resourceVersion === before?.metadata.resourceVersion;
}

function store(
  context: ApiContext,
  call: ResourceCall,
  { before, after, warnings }: Prepared,
): void {
  const { key } = call.route;
  warn(call, warnings);
  if (before === undefined) {
    sendObject(context, call, context.store.create(key, after, writeOptions(call)), 201);
    return;
  }
  sendObject(context, call, context.store.update(key, after, writeOptions(call)));
}

function applied(context: ApiContext, call: ResourceCall, live: KubeObject | undefined): Prepared {
  const { route, definition } = call;
  const { key, name = '' } = route;
  const sent = decodeObject(call.body, 'application/yaml');
  const warnings = checkFields(sent, destination(call, name));
  if (route.subresource !== undefined && live === undefined) throw notFound(key, name);
  const merged = applyObject({
    call,
    live,
    applied: withIdentity(sent, call),
    schema: schemaOf(definition, route.version),
    apiVersion: joinApiVersion(key.group, route.version),
    ignored: ignoredFields(call),
    now: kubeTime(context.now()),
  });
  const { object } = admit(merged, { ...destination(call, name), validation: 'Ignore' });
  return { before: live, after: object, warnings };
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
