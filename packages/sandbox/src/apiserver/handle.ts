import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Attributes } from './authorize.ts';
import { isAllowed, refuse } from './authorize.ts';
import type { ApiContext, ResourceCall } from './context.ts';
import {
  ApiError,
  badRequest,
  isApiError,
  methodNotAllowed,
  pathNotFound,
  unauthorized,
} from './errors.ts';
import { readBody, sendJson, sendText } from './http.ts';
import { answerPath, openPaths } from './paths.ts';
import { list, requireObject, sendObject } from './read.ts';
import type { ResourceDefinition } from './registry.ts';
import { review } from './reviews.ts';
import type { ApiRoute } from './route.ts';
import { parseRoute, verbOf } from './route.ts';
import { evict, finalize, podStreamOf, requestToken, scale, streamPod } from './subresources.ts';
import type { User } from './tokens.ts';
import { watch } from './watch.ts';
import { create, patch, remove, removeCollection, update } from './write.ts';

interface Target {
  readonly path: string;
  readonly query: URLSearchParams;
  readonly route: ApiRoute | undefined;
}

/** Answers one request; every refusal is a Status. */
export async function handleRequest(
  context: ApiContext,
  request: IncomingMessage,
  response: ServerResponse,
  onError: (error: unknown) => void,
): Promise<void> {
  try {
    await dispatch(context, request, response);
  } catch (error) {
    if (isApiError(error)) {
      if (error.status.code === 401) response.setHeader('www-authenticate', 'Bearer');
      sendJson(response, error.status.code, error.status);
      return;
    }
    if ((error as { code?: string }).code === 'ECONNRESET') return;
    onError(error);
    const failure = new ApiError(
      500,
      'InternalError',
      'an error on the server has prevented the request from succeeding',
    );
    sendJson(response, 500, failure.status);
  }
}

async function dispatch(
  context: ApiContext,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { path, query, route } = targetOf(request);
  const method = request.method ?? 'GET';
  if (openPaths.has(path) && method === 'GET') {
    answer(context, path, request, response);
    return;
  }
  const user = authenticate(context, request);
  if (route === undefined) {
    authorizePath(context, user, path, method);
    if (method !== 'GET') throw methodNotAllowed();
    answer(context, path, request, response);
    return;
  }
  const definition = servedDefinition(context, route);
  const watching = query.get('watch') === 'true' || query.get('watch') === '1';
  authorizeRoute(
    context,
    user,
    { ...route, name: nameAsked(route, query) },
    verbOf(method, route, watching),
  );
  const body = method === 'GET' ? Buffer.alloc(0) : await readBody(request);
  const contentType = (request.headers['content-type'] ?? 'application/json').toLowerCase();
  const call: ResourceCall = {
    method, route, definition, query, user, request, response, body, contentType,
  }; // prettier-ignore
  if (route.subresource !== undefined) await serveSubresource(context, call);
  else if (route.name === undefined) await serveCollection(context, call, watching);
  else await serveObject(context, call, watching);
}

function targetOf(request: IncomingMessage): Target {
  const url = new URL(request.url ?? '/', 'https://kubernetes');
  let segments: readonly string[];
  try {
    segments = url.pathname.split('/').slice(1).map(decodeURIComponent);
  } catch {
    throw pathNotFound();
  }
  const trimmed = segments.at(-1) === '' ? segments.slice(0, -1) : segments;
  return { path: url.pathname, query: url.searchParams, route: parseRoute(trimmed) };
}

function answer(
  context: ApiContext,
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const { body, contentType, text } = answerPath(context, path, request.headers.accept);
  if (text === true) sendText(response, 200, String(body));
  else sendJson(response, 200, body, contentType);
}

function authenticate(context: ApiContext, request: IncomingMessage): User {
  const match = /^Bearer\s+(\S+)$/i.exec(request.headers.authorization ?? '');
  const token = match?.[1] ?? webSocketToken(request);
  if (token === undefined) throw unauthorized();
  const checked = context.tokens.verify(token);
  if (!checked.ok) throw unauthorized();
  return impersonate(context, checked.user, request);
}

/** Acts as another user (`kubectl --as`), for who may do so. @throws ApiError Forbidden */
function impersonate({ store }: ApiContext, user: User, { headers }: IncomingMessage): User {
  const username = headers['impersonate-user'];
  const named = Object.keys(headers).filter((name) => name.startsWith('impersonate-'));
  if (named.length === 0) return user;
  if (typeof username !== 'string')
    throw badRequest('Impersonate-User is required with other Impersonate- headers');
  const given = headers['impersonate-group'];
  const groups =
    typeof given === 'string' ? given.split(',').map((group) => group.trim()) : (given ?? []);
  const account = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(username);
  const asked = [
    account === null
      ? ({ resource: 'users', name: username } as const)
      : ({ resource: 'serviceaccounts', namespace: account[1], name: account[2] } as const),
    ...groups.map((name) => ({ resource: 'groups', name }) as const),
  ];
  for (const one of asked) {
    const attributes: Attributes = { kind: 'resource', verb: 'impersonate', group: '', ...one };
    if (!isAllowed(store, user, attributes)) throw refuse(user, attributes);
  }
  const own =
    account === null
      ? []
      : ['system:serviceaccounts', `system:serviceaccounts:${account[1] ?? ''}`];
  return { username, groups: [...(groups.length > 0 ? groups : own), 'system:authenticated'] };
}

/** Browsers cannot set headers on a WebSocket: the token may come as a subprotocol, as in the real API server. */
function webSocketToken(request: IncomingMessage): string | undefined {
  const prefix = 'base64url.bearer.authorization.k8s.io.';
  const protocols = (request.headers['sec-websocket-protocol'] ?? '')
    .split(',')
    .map((one) => one.trim());
  const found = protocols.find((one) => one.startsWith(prefix));
  return found === undefined
    ? undefined
    : Buffer.from(found.slice(prefix.length), 'base64url').toString('utf8');
}

function authorizePath({ store }: ApiContext, user: User, path: string, method: string): void {
  const asked: Attributes = { kind: 'path', verb: method.toLowerCase(), path };
  if (!isAllowed(store, user, asked)) throw refuse(user, asked);
}

function authorizeRoute({ store }: ApiContext, user: User, route: ApiRoute, verb: string): void {
  const { key, namespace, name, subresource } = route;
  const asked: Attributes = { kind: 'resource', verb, ...key, namespace, name, subresource };
  if (!isAllowed(store, user, asked)) throw refuse(user, asked);
}

/** As in the real API server, who lists or watches one object by its name needs rights to that one only. */
function nameAsked({ name, subresource }: ApiRoute, query: URLSearchParams): string | undefined {
  if (name !== undefined || subresource !== undefined) return name;
  return /^metadata\.name==?([^,]+)$/.exec(query.get('fieldSelector') ?? '')?.[1];
}

function servedDefinition({ store }: ApiContext, route: ApiRoute): ResourceDefinition {
  const definition = store.registry.get(route.key);
  const version = definition.versions.find(({ name }) => name === route.version);
  if (version?.served !== true) throw pathNotFound();
  if (
    !definition.namespaced &&
    route.namespace !== undefined &&
    route.key.resource !== 'namespaces'
  ) {
    throw pathNotFound();
  }
  return definition;
}

async function serveCollection(
  context: ApiContext,
  call: ResourceCall,
  watching: boolean,
): Promise<void> {
  const { verbs } = call.definition;
  const stored = verbs.includes('list');
  if (call.method === 'POST') {
    if (stored) await create(context, withNamespace(call));
    else review(context, call);
    return;
  }
  if (!stored) throw methodNotAllowed();
  switch (call.method) {
    case 'GET':
      if (watching) watch(context, call);
      else list(context, call);
      return;
    case 'DELETE':
      removeCollection(context, call);
      return;
    default:
      throw methodNotAllowed();
  }
}

/** An object of a namespace is created at its namespace's path. */
function withNamespace(call: ResourceCall): ResourceCall {
  if (!call.definition.namespaced || call.route.namespace !== undefined) return call;
  throw methodNotAllowed();
}

async function serveObject(
  context: ApiContext,
  call: ResourceCall,
  watching: boolean,
): Promise<void> {
  if (!call.definition.verbs.includes('get')) throw methodNotAllowed();
  switch (call.method) {
    case 'GET':
      if (watching) watch(context, call);
      else sendObject(context, call, requireObject(context, call));
      return;
    case 'PUT':
      await update(context, call);
      return;
    case 'PATCH':
      await patch(context, call);
      return;
    case 'DELETE':
      remove(context, call);
      return;
    default:
      throw methodNotAllowed();
  }
}

async function serveSubresource(context: ApiContext, call: ResourceCall): Promise<void> {
  const { definition, route, method, request, response, query } = call;
  const { key, subresource = '' } = route;
  const stream = isPods(route) ? podStreamOf(subresource) : undefined;
  if (stream !== undefined) {
    streamPod(context, {
      pod: requireObject(context, call),
      subresource: stream,
      query,
      request,
      response,
    });
    return;
  }
  const status = definition.versions.find(({ name }) => name === route.version)?.status === true;
  if (subresource === 'scale') scale(context, call);
  else if (subresource === 'status' && status && method !== 'DELETE')
    await serveObject(context, call, false);
  else if (subresource === 'finalize' && key.resource === 'namespaces') finalize(context, call);
  else if (!definition.subresources.some(({ name }) => name === subresource)) throw pathNotFound();
  else if (method !== 'POST') throw methodNotAllowed();
  else if (subresource === 'token') requestToken(context, call);
  else evict(context, call);
}

function isPods({ key }: ApiRoute): boolean {
  return key.group === '' && key.resource === 'pods';
}

/** Hands an upgrade for a pod's stream on; anything else is refused and closed. */
export function handleUpgrade(
  context: ApiContext,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): void {
  try {
    const { route, query } = targetOf(request);
    const user = authenticate(context, request);
    const stream = podStreamOf(route?.subresource);
    if (route === undefined || stream === undefined || !isPods(route)) throw pathNotFound();
    // The real one asks for `create` whatever the method, and newer ones for both.
    authorizeRoute(context, user, route, stream === 'log' ? 'get' : 'create');
    const { namespace, name = '', key } = route;
    const pod = context.store.get(key, namespace, name);
    if (pod === undefined) throw new ApiError(404, 'NotFound', `pods "${name}" not found`);
    streamPod(context, { pod, subresource: stream, query, request, upgrade: { socket, head } });
  } catch (error) {
    const status = isApiError(error)
      ? error.status
      : new ApiError(500, 'InternalError', 'the upgrade failed').status;
    const body = `${JSON.stringify(status)}\n`;
    socket.end(
      `HTTP/1.1 ${status.code} ${status.reason}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
    );
  }
}
