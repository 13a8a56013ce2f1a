import { createHmac, randomBytes } from 'node:crypto';
import type { ApiContext, ResourceCall } from './context.ts';
import { asVersion } from './convert.ts';
import { badRequest, expired, notFound } from './errors.ts';
import { sendJson } from './http.ts';
import { formOf, includeOf } from './negotiate.ts';
import type { JsonObject, KubeObject } from './object.ts';
import { isObject, omit, resourceName } from './object.ts';
import { joinApiVersion } from './registry.ts';
import type { Selector } from './selectors.ts';
import { parseFieldSelector, parseLabelSelector } from './selectors.ts';
import { partialMetadata, tableOf } from './table.ts';

/** The object a call names. @throws ApiError NotFound */
export function requireObject({ store }: ApiContext, { route }: ResourceCall): KubeObject {
  const { key, namespace, name = '' } = route;
  const found = store.get(key, namespace, name);
  if (found === undefined) throw notFound(key, name);
  return found;
}

/** Answers with one object in the form the client asked for. */
export function sendObject(
  context: ApiContext,
  call: ResourceCall,
  stored: KubeObject,
  status = 200,
): void {
  const { definition, route, request, query } = call;
  const object = asVersion(stored, definition, route.version);
  const form = formOf(request.headers.accept);
  if (form.kind === 'plain') sendJson(call.response, status, object);
  else if (form.kind === 'metadata')
    sendJson(call.response, status, partialMetadata(object, form.version));
  else {
    const { resourceVersion } = object.metadata;
    const table = tableOf([object], resourceVersion === undefined ? {} : { resourceVersion }, {
      definition,
      version: route.version,
      tableVersion: form.version,
      include: includeOf(query.get('includeObject')),
      nowMs: context.now(),
    });
    sendJson(call.response, status, table);
  }
}

/** The label and field selectors of a call, as one. */
export function selectorOf({ query, definition, route }: ResourceCall): Selector {
  const labels = parseLabelSelector(query.get('labelSelector') ?? '');
  const selectable =
    definition.versions.find(({ name }) => name === route.version)?.selectableFields ?? [];
  const fields = parseFieldSelector(
    query.get('fieldSelector') ?? '',
    resourceName(definition.key),
    selectable,
  );
  const { name } = route;
  return (object) =>
    labels(object) && fields(object) && (name === undefined || object.metadata.name === name);
}

export function list(context: ApiContext, call: ResourceCall): void {
  const { store } = context;
  const { route, query, definition, request, response } = call;
  const all = store.list(route.key, route.namespace, selectorOf(call));
  const { items, metadata } = page(all.items, all.resourceVersion, query);
  const objects = items.map((item) => asVersion(item, definition, route.version));
  const form = formOf(request.headers.accept);
  if (form.kind === 'table') {
    const table = tableOf(objects, metadata, {
      definition,
      version: route.version,
      tableVersion: form.version,
      include: includeOf(query.get('includeObject')),
      nowMs: context.now(),
    });
    sendJson(response, 200, table);
    return;
  }
  if (form.kind === 'metadata') {
    sendJson(response, 200, {
      kind: 'PartialObjectMetadataList',
      apiVersion: `meta.k8s.io/${form.version}`,
      metadata,
      items: objects.map((object) => partialMetadata(object, form.version)),
    });
    return;
  }
  sendJson(response, 200, {
    kind: definition.listKind,
    apiVersion: joinApiVersion(definition.key.group, route.version),
    metadata,
    items: definition.custom
      ? objects
      : objects.map((object) => omit(object, ['apiVersion', 'kind'])),
  });
}

function page(
  all: readonly KubeObject[],
  resourceVersion: string,
  query: URLSearchParams,
): { items: readonly KubeObject[]; metadata: JsonObject } {
  const limit = Number(query.get('limit') ?? 0);
  const token = query.get('continue') ?? '';
  if (!Number.isSafeInteger(limit) || limit < 0)
    throw badRequest(`limit must be a number, not ${query.get('limit') ?? ''}`);
  const after = token === '' ? undefined : readContinue(token);
  const rest = after === undefined ? all : all.filter((object) => pageKey(object) > after.key);
  const version = after?.version ?? resourceVersion;
  if (limit === 0 || rest.length <= limit)
    return { items: rest, metadata: { resourceVersion: version } };
  const items = rest.slice(0, limit);
  const last = items.at(-1);
  return {
    items,
    metadata: {
      resourceVersion: version,
      continue: writeContinue(version, last === undefined ? '' : pageKey(last)),
      remainingItemCount: rest.length - items.length,
    },
  };
}

function pageKey({ metadata }: KubeObject): string {
  return metadata.namespace === undefined
    ? metadata.name
    : `${metadata.namespace}/${metadata.name}`;
}

// Pages are told apart from what a client made up, and one process's from another's.
const pageSecret = randomBytes(16);

function writeContinue(version: string, key: string): string {
  const text = JSON.stringify({ version, key });
  return Buffer.from(JSON.stringify({ text, mac: macOf(text) })).toString('base64url');
}

function readContinue(token: string): { version: string; key: string } {
  try {
    const { text, mac } = JSON.parse(Buffer.from(token, 'base64url').toString('utf8')) as {
      text: string;
      mac: string;
    };
    const value: unknown = JSON.parse(text);
    if (mac === macOf(text) && isObject(value)) {
      return { version: String(value['version']), key: String(value['key']) };
    }
  } catch {
    // Falls to the refusal below: what cannot be read is as good as too old.
  }
  throw expired(
    'The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.',
  );
}

function macOf(text: string): string {
  return createHmac('sha256', pageSecret).update(text).digest('base64url');
}
