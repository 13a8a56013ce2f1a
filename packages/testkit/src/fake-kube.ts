import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** An object of the Kubernetes API as far as this server looks into it. */
export interface FakeObject {
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
    readonly [key: string]: unknown;
  };
  readonly [key: string]: unknown;
}

export interface FakeAnswer {
  readonly status: number;
  readonly body: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

interface Request {
  readonly method: string;
  /** Media type of the body. */
  readonly contentType: string;
  readonly url: URL;
  readonly body: unknown;
}

interface Target {
  /** `<group>/<plural>`, for example `/api/v1/pods`. */
  readonly collection: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
}

interface WatchEvent {
  readonly version: number;
  readonly collection: string;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: FakeObject;
}

interface Watch {
  readonly path: string;
  readonly collection: string;
  readonly matches: (object: FakeObject) => boolean;
  readonly response: ServerResponse;
}

const pathForm =
  /^(\/api\/v1|\/apis\/[^/]+\/[^/]+)(?:\/namespaces\/([^/]+))?\/([^/]+)(?:\/([^/]+))?(?:\/([^/]+))?$/;

/**
 * A list and watch server that does what a test's script says: it answers 410, drops connections, goes silent, repeats
 * and reorders events. Beside that it keeps objects as the real one does, with versions and conflicts.
 */
export class FakeKube {
  readonly #objects = new Map<string, Map<string, FakeObject>>();
  readonly #history: WatchEvent[] = [];
  readonly #watches = new Set<Watch>();
  readonly #muted = new Set<Watch>();
  readonly #lists = new Map<string, { version: number; objects: FakeObject[] }>();
  readonly #server = createServer((request, response) => {
    this.#serve(request, response).catch(() => response.destroy());
  });
  #version = 100;
  #oldestVersion = 0;
  /** Answers a request in the server's stead; undefined lets the server answer. */
  intercept: ((request: Request) => FakeAnswer | 'hang' | 'drop' | undefined) | undefined;
  /** Sees every event of a watch on its way; what it returns is sent instead. */
  shape: ((event: WatchEvent) => readonly WatchEvent[]) | undefined;
  #silent = false;
  readonly requests: { method: string; path: string; watch: boolean; accept: string }[] = [];

  static async start(): Promise<FakeKube> {
    const fake = new FakeKube();
    await new Promise<void>((resolve) => fake.#server.listen(0, '127.0.0.1', () => resolve()));
    return fake;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get openWatches(): number {
    return this.#watches.size + this.#muted.size;
  }

  /** Where watches are open now, in the order in which they began. */
  watchedPaths(): string[] {
    return [...this.#watches, ...this.#muted].map(({ path }) => path);
  }

  /**
   * While set, watches stay open and say nothing. One that was silent stays so for good: what it did not tell it
   * cannot tell later, and no server goes on with what comes after it.
   */
  set silent(silent: boolean) {
    this.#silent = silent;
    if (!silent) return;
    for (const watch of this.#watches) this.#muted.add(watch);
    this.#watches.clear();
  }

  get silent(): boolean {
    return this.#silent;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  get(collection: string, key: string): FakeObject | undefined {
    return this.#objects.get(collection)?.get(key);
  }

  list(collection: string): FakeObject[] {
    return [...(this.#objects.get(collection)?.values() ?? [])];
  }

  /** Creates or changes an object and tells every watch. */
  put(collection: string, object: FakeObject): FakeObject {
    const objects = this.#collection(collection);
    const key = keyOf(object);
    const before = objects.get(key);
    this.#version += 1;
    const stored: FakeObject = {
      ...object,
      metadata: {
        creationTimestamp: '2026-01-01T00:00:00Z',
        ...object.metadata,
        uid: object.metadata.uid ?? before?.metadata.uid ?? randomUUID(),
        resourceVersion: String(this.#version),
      },
    };
    objects.set(key, stored);
    this.#record(collection, before === undefined ? 'ADDED' : 'MODIFIED', stored);
    return stored;
  }

  delete(collection: string, key: string): void {
    const object = this.#collection(collection).get(key);
    if (object === undefined) return;
    this.#collection(collection).delete(key);
    this.#version += 1;
    const metadata = { ...object.metadata, resourceVersion: String(this.#version) };
    this.#record(collection, 'DELETED', { ...object, metadata });
  }

  /** Forgets the past: a watch that begins before now is answered 410. */
  compact(): void {
    this.#history.length = 0;
    this.#oldestVersion = this.#version;
  }

  /** Tells every watch that its version is gone. */
  expireWatches(): void {
    this.failWatches({ code: 410, reason: 'Expired', message: 'too old' });
  }

  /** Ends every watch with an error. */
  failWatches(why: { readonly code: number; readonly reason: string; readonly message: string }) {
    const status = { kind: 'Status', ...why };
    for (const watch of [...this.#watches, ...this.#muted]) {
      watch.response.write(`${JSON.stringify({ type: 'ERROR', object: status })}\n`);
      watch.response.end();
    }
    this.#watches.clear();
    this.#muted.clear();
  }

  /** Ends every watch in order, as a server does whose time for it is over. */
  endWatches(): void {
    for (const { response } of this.#watches) response.end();
    this.#watches.clear();
  }

  /** Cuts every watch in the middle of a line. */
  dropWatches(): void {
    for (const { response } of [...this.#watches, ...this.#muted]) {
      response.write('{"type":"MODI');
      response.destroy();
    }
    this.#watches.clear();
    this.#muted.clear();
  }

  /** Goes back to smaller versions, as an API server restored from a backup does. */
  resetVersions(): void {
    this.#version = 1;
    this.#history.length = 0;
    this.#oldestVersion = 1;
    for (const objects of this.#objects.values()) {
      for (const [key, object] of objects) {
        this.#version += 1;
        const metadata = { ...object.metadata, resourceVersion: String(this.#version) };
        objects.set(key, { ...object, metadata });
      }
    }
  }

  bookmark(): void {
    for (const { response } of this.#watches) {
      const object = { metadata: { resourceVersion: String(this.#version) } };
      response.write(`${JSON.stringify({ type: 'BOOKMARK', object })}\n`);
    }
  }

  #collection(name: string): Map<string, FakeObject> {
    const objects = this.#objects.get(name) ?? new Map<string, FakeObject>();
    this.#objects.set(name, objects);
    return objects;
  }

  #record(collection: string, type: WatchEvent['type'], object: FakeObject): void {
    const event = { version: this.#version, collection, type, object };
    this.#history.push(event);
    for (const shaped of this.shape?.(event) ?? [event]) {
      for (const watch of this.#watches) send(watch, shaped);
    }
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.url);
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString('utf8');
    const body: unknown = text === '' ? undefined : JSON.parse(text);
    const method = request.method ?? 'GET';
    const isWatch = url.searchParams.get('watch') === 'true';
    const { accept = '', 'content-type': contentType = '' } = request.headers;
    this.requests.push({ method, path: url.pathname, watch: isWatch, accept });
    const scripted = this.intercept?.({ method, contentType, url, body });
    if (scripted === 'hang') return;
    if (scripted === 'drop') {
      response.destroy();
      return;
    }
    if (scripted !== undefined) {
      reply(response, scripted);
      return;
    }
    const target = targetOf(url.pathname);
    if (target === undefined) reply(response, failure(404, 'NotFound'));
    else if (isWatch) this.#watch(target, url, response);
    else if (method === 'PATCH' && contentType.startsWith('application/apply-patch'))
      reply(response, this.#apply(target, body as FakeObject));
    else reply(response, this.#answer(method, target, url, body as FakeObject | undefined));
  }

  #answer(method: string, target: Target, url: URL, body: FakeObject | undefined): FakeAnswer {
    const objects = this.#collection(target.collection);
    if (target.name === undefined) return this.#answerCollection(method, target, url, body);
    const key = target.namespace === undefined ? target.name : `${target.namespace}/${target.name}`;
    const object = objects.get(key);
    if (object === undefined) return failure(404, 'NotFound');
    switch (method) {
      case 'GET':
        return { status: 200, body: object };
      case 'DELETE':
        this.delete(target.collection, key);
        return { status: 200, body: object };
      case 'PUT': {
        const version = body?.metadata.resourceVersion;
        if (version !== undefined && version !== object.metadata.resourceVersion) {
          return failure(409, 'Conflict');
        }
        return { status: 200, body: this.put(target.collection, { ...object, ...body }) };
      }
      case 'PATCH':
        return {
          status: 200,
          body: this.put(target.collection, mergePatch(object, body) as FakeObject),
        };
      default:
        return failure(405, 'MethodNotAllowed');
    }
  }

  /** As server-side apply, but for the owners of fields: what is not there is made. */
  #apply(target: Target, body: FakeObject): FakeAnswer {
    const key = keyOf(body);
    const found = this.get(target.collection, key);
    return {
      status: 200,
      body: this.put(target.collection, mergePatch(found, body) as FakeObject),
    };
  }

  #answerCollection(
    method: string,
    target: Target,
    url: URL,
    body: FakeObject | undefined,
  ): FakeAnswer {
    if (method === 'GET') return this.#list(target, url);
    if (method !== 'POST' || body === undefined) return failure(405, 'MethodNotAllowed');
    const namespace = target.namespace === undefined ? {} : { namespace: target.namespace };
    const metadata = { ...body.metadata, ...namespace };
    if (this.#collection(target.collection).has(keyOf({ metadata }))) {
      return failure(409, 'AlreadyExists');
    }
    return { status: 201, body: this.put(target.collection, { ...body, metadata }) };
  }

  #list(target: Target, url: URL): FakeAnswer {
    const limit = Number(url.searchParams.get('limit') ?? '0');
    const token = url.searchParams.get('continue') ?? '';
    const [page = '', start = '0'] = token.split(':');
    // All pages of a list show one moment, as the real server's do.
    const whole = this.#lists.get(page) ?? {
      version: this.#version,
      objects: this.list(target.collection).filter(selectorOf(target, url)),
    };
    if (whole.version < this.#oldestVersion) return failure(410, 'Expired');
    const from = Number(start);
    const items = whole.objects.slice(from, limit > 0 ? from + limit : undefined);
    const more = from + items.length < whole.objects.length;
    const id = page === '' ? randomUUID() : page;
    if (more) this.#lists.set(id, whole);
    else this.#lists.delete(id);
    const next = more ? { continue: `${id}:${from + items.length}` } : {};
    const metadata = { resourceVersion: String(whole.version), ...next };
    return { status: 200, body: { kind: 'List', metadata, items } };
  }

  #watch(target: Target, url: URL, response: ServerResponse): void {
    const since = Number(url.searchParams.get('resourceVersion') ?? '0');
    if (since < this.#oldestVersion || since > this.#version) {
      reply(response, failure(410, 'Expired'));
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    const watch = {
      path: url.pathname,
      collection: target.collection,
      matches: selectorOf(target, url),
      response,
    };
    const open = this.#silent ? this.#muted : this.#watches;
    open.add(watch);
    response.on('close', () => {
      this.#watches.delete(watch);
      this.#muted.delete(watch);
    });
    if (this.#silent) return;
    for (const event of this.#history) if (event.version > since) send(watch, event);
  }
}

function send({ collection, matches, response }: Watch, event: WatchEvent): void {
  if (event.collection !== collection || !matches(event.object)) return;
  response.write(`${JSON.stringify({ type: event.type, object: event.object })}\n`);
}

function targetOf(path: string): Target | undefined {
  const parts = pathForm.exec(path);
  if (parts === null) return undefined;
  const [, group = '', namespace, plural = '', name, subresource] = parts;
  return { collection: `${group}/${plural}`, namespace, name, subresource };
}

function selectorOf(target: Target, url: URL): (object: FakeObject) => boolean {
  const name = /^metadata\.name=(.+)$/.exec(url.searchParams.get('fieldSelector') ?? '')?.[1];
  const [label, values] = labelsOf(url.searchParams.get('labelSelector') ?? '');
  return ({ metadata }) =>
    (name === undefined || metadata.name === name) &&
    (target.namespace === undefined || metadata.namespace === target.namespace) &&
    (label === undefined || values.includes((metadata['labels'] as Labels)?.[label] ?? ''));
}

type Labels = Readonly<Record<string, string>> | undefined;

/** `name=value` and `name in (value,value)`, and no more of them than one. */
function labelsOf(selector: string): readonly [string | undefined, readonly string[]] {
  if (selector === '') return [undefined, []];
  const [, name, value, values] = /^(\S+?)(?:=(\S*)| in \((.*)\))$/.exec(selector) ?? [];
  if (name === undefined) throw new TypeError(`no such selector here: ${selector}`);
  return [name, value === undefined ? (values ?? '').split(',') : [value]];
}

function keyOf({ metadata }: Pick<FakeObject, 'metadata'>): string {
  return metadata.namespace === undefined
    ? metadata.name
    : `${metadata.namespace}/${metadata.name}`;
}

function mergePatch(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const base =
    typeof target === 'object' && target !== null && !Array.isArray(target) ? target : {};
  const merged = new Map<string, unknown>(Object.entries(base));
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key);
    else merged.set(key, mergePatch(merged.get(key), value));
  }
  return Object.fromEntries(merged);
}

function failure(code: number, reason: string): FakeAnswer {
  return { status: code, body: { kind: 'Status', code, reason, message: reason } };
}

function reply(response: ServerResponse, { status, body, headers }: FakeAnswer): void {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    ...headers,
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  });
  response.end(text);
}
