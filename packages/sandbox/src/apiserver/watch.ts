import type { ServerResponse } from 'node:http';
import type { ApiContext, ResourceCall } from './context.ts';
import { asVersion } from './convert.ts';
import { badRequest, expired, isApiError } from './errors.ts';
import { formOf, includeOf } from './negotiate.ts';
import type { KubeObject } from './object.ts';
import { joinApiVersion } from './registry.ts';
import { selectorOf } from './read.ts';
import type { StoredEvent } from './storage.ts';
import { partialMetadata, tableOf } from './table.ts';

const bookmarkEveryMs = 60_000;
/** A client that reads slower than its changes come is cut off at this many waiting bytes and lists anew. */
const maxWaitingBytes = 16 * 1024 * 1024;

/** Streams changes until the client goes, its time is up, or it falls behind. */
export function watch(context: ApiContext, call: ResourceCall): void {
  const { store } = context;
  const { route, query, response, request } = call;
  const selects = selectorOf(call);
  const wanted = (object: KubeObject | undefined): boolean =>
    object !== undefined &&
    (route.namespace === undefined || object.metadata.namespace === route.namespace) &&
    selects(object);
  const frame = framer(context, call);
  const send = (type: string, object: unknown): void => write(response, type, object);
  const since = startVersion(query);
  const initial = query.get('sendInitialEvents') === 'true';
  const start = (): { close(): void } => {
    const follow = (from: number): { close(): void } =>
      store.storage.follow(route.key, from, (event) => {
        const change = changeFor(event, wanted);
        if (change !== undefined) send(change, frame(event.object));
      });
    if (since !== undefined && !initial) {
      requireKnown(since, store.storage.version);
      const probe = store.storage.follow(route.key, since, () => undefined);
      probe.close();
      open(response, request.headers.accept);
      return follow(since);
    }
    const { items, resourceVersion } = store.list(route.key, route.namespace, selects);
    open(response, request.headers.accept);
    for (const object of items) send('ADDED', frame(object));
    if (initial) send('BOOKMARK', bookmark(call, resourceVersion, true));
    return follow(Number(resourceVersion));
  };
  const following = startOrTell(start, call);
  if (following === undefined) return;
  const bookmarks = query.get('allowWatchBookmarks') === 'true';
  const timer = setInterval(() => {
    if (bookmarks) send('BOOKMARK', bookmark(call, String(store.storage.version), false));
  }, bookmarkEveryMs);
  const deadline = setTimeout(() => response.end(), watchSeconds(query, context) * 1000);
  response.on('close', () => {
    following.close();
    clearInterval(timer);
    clearTimeout(deadline);
  });
}

/** A version that is forgotten is told in the stream, where clients look for it. */
function startOrTell(
  start: () => { close(): void },
  { request, response }: ResourceCall,
): { close(): void } | undefined {
  try {
    return start();
  } catch (error) {
    if (!isApiError(error, 'Expired')) throw error;
    open(response, request.headers.accept);
    write(response, 'ERROR', error.status);
    response.end();
    return undefined;
  }
}

/** A client from before a restart without a kept state may name a version that is still to come. */
function requireKnown(since: number, newest: number): void {
  if (since > newest) throw expired(`Too large resource version: ${since}, current: ${newest}`);
}

function startVersion(query: URLSearchParams): number | undefined {
  const given = query.get('resourceVersion') ?? '';
  if (given === '' || given === '0') return undefined;
  const version = Number(given);
  if (!Number.isSafeInteger(version) || version < 0)
    throw badRequest(`invalid resource version ${JSON.stringify(given)}`);
  return version;
}

function watchSeconds(query: URLSearchParams, { minimumWatchSeconds }: ApiContext): number {
  const asked = Number(query.get('timeoutSeconds') ?? 0);
  if (Number.isSafeInteger(asked) && asked > 0) return Math.min(asked, 86_400);
  return minimumWatchSeconds * (1 + Math.random());
}

/** What a change is for one who sees only some objects: an object may come into view or leave it. */
function changeFor(
  { type, object, previous }: StoredEvent,
  wanted: (object: KubeObject | undefined) => boolean,
): StoredEvent['type'] | undefined {
  const before = wanted(previous);
  if (type === 'DELETED') return before || wanted(object) ? 'DELETED' : undefined;
  if (wanted(object)) return before ? 'MODIFIED' : 'ADDED';
  return before ? 'DELETED' : undefined;
}

function framer(context: ApiContext, call: ResourceCall): (object: KubeObject) => unknown {
  const { definition, route, request, query } = call;
  const form = formOf(request.headers.accept);
  const include = includeOf(query.get('includeObject'));
  return (stored) => {
    const object = asVersion(stored, definition, route.version);
    switch (form.kind) {
      case 'plain':
        return object;
      case 'metadata':
        return partialMetadata(object, form.version);
      case 'table': {
        const metadata = { resourceVersion: object.metadata.resourceVersion };
        const shape = { definition, version: route.version, tableVersion: form.version, include };
        return tableOf([object], metadata, { ...shape, nowMs: context.now() });
      }
    }
  };
}

function bookmark(
  { definition, route }: ResourceCall,
  resourceVersion: string,
  initialEnd: boolean,
): unknown {
  return {
    kind: definition.kind,
    apiVersion: joinApiVersion(definition.key.group, route.version),
    metadata: {
      resourceVersion,
      creationTimestamp: null,
      ...(initialEnd ? { annotations: { 'k8s.io/initial-events-end': 'true' } } : {}),
    },
  };
}

function open(response: ServerResponse, accept: string | undefined): void {
  const contentType =
    formOf(accept).kind === 'plain'
      ? 'application/json'
      : (accept?.split(',')[0] ?? 'application/json');
  response.writeHead(200, { 'content-type': contentType, 'cache-control': 'no-cache, private' });
  response.flushHeaders();
}

function write(response: ServerResponse, type: string, object: unknown): void {
  if (response.writableEnded || response.destroyed) return;
  response.write(`${JSON.stringify({ type, object })}\n`);
  if (response.writableLength > maxWaitingBytes) response.destroy();
}
