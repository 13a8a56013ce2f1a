import { request } from 'node:https';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  AuthenticationV1Api,
  AuthenticationV1TokenRequest,
  CoreV1Api,
  KubeConfig,
  Watch,
  type KubernetesObject,
  V1BoundObjectReference,
  V1TokenRequestSpec,
  V1TokenReview,
  V1TokenReviewSpec,
} from '@kubernetes/client-node';
import { afterEach, describe, expect, test } from '@jest/globals';
import { startTestApi, type TestApi } from './support/api-server.ts';
import type { ApiServerOptions, KubeObject } from '../src/apiserver/index.ts';

const pods = { group: '', resource: 'pods' };
const configMaps = { group: '', resource: 'configmaps' };
const running: TestApi[] = [];
const folders: string[] = [];

afterEach(async () => {
  for (const one of running.splice(0)) {
    await one.api.close();
    expect(one.errors).toEqual([]);
  }
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

async function start(options: Partial<ApiServerOptions> = {}): Promise<TestApi> {
  const one = await startTestApi(options);
  running.push(one);
  return one;
}

function configOf({ server, ca, api }: TestApi, token = api.tokens.adminToken): KubeConfig {
  const config = new KubeConfig();
  config.loadFromOptions({
    clusters: [{ name: 'c', server, caData: Buffer.from(ca).toString('base64') }],
    users: [{ name: 'u', token }],
    contexts: [{ name: 'x', cluster: 'c', user: 'u' }],
    currentContext: 'x',
  });
  return config;
}

interface Answer {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: string;
}

interface Asked {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: unknown;
  readonly token?: string | undefined;
  readonly socketPath?: string;
}

function ask({ server, ca, api }: TestApi, path: string, asked: Asked = {}): Promise<Answer> {
  const token = 'token' in asked ? asked.token : api.tokens.adminToken;
  const url = new URL(path, server);
  return new Promise((resolve, reject) => {
    const sent = request(
      url,
      {
        ca,
        method: asked.method ?? 'GET',
        agent: false,
        ...(asked.socketPath === undefined
          ? {}
          : { socketPath: asked.socketPath, servername: 'localhost' }),
        headers: {
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          'content-type': 'application/json',
          ...asked.headers,
        },
      },
      (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => (body += chunk));
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
        );
      },
    );
    sent.on('error', reject);
    sent.end(asked.body === undefined ? undefined : JSON.stringify(asked.body));
  });
}

function frames({
  body,
}: Answer): { type: string; object: KubeObject & { code?: number; reason?: string } }[] {
  return body
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as ReturnType<typeof frames>[number]);
}

function configMap(name: string, data: Record<string, string> = {}): KubeObject {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: 'default' }, data };
}

function pod(name: string): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default' },
    spec: { containers: [{ name: 'c', image: 'shop:1' }] },
  };
}

describe('who may ask', () => {
  test('health and version answer anyone, everything else asks for a token', async () => {
    const one = await start();
    for (const path of ['/healthz', '/livez', '/readyz', '/version']) {
      expect((await ask(one, path, { token: undefined })).status).toBe(200);
    }
    for (const path of ['/api', '/openapi/v3', '/api/v1/pods', '/apis/apps/v1/deployments']) {
      expect((await ask(one, path, { token: undefined })).status).toBe(401);
      expect((await ask(one, path, { token: 'guess' })).status).toBe(401);
    }
  });

  test('a service account without rights may discover and nothing more', async () => {
    const one = await start();
    one.api.store.create(
      { group: '', resource: 'serviceaccounts' },
      {
        apiVersion: 'v1',
        kind: 'ServiceAccount',
        metadata: { name: 'nobody', namespace: 'default' },
      },
    );
    const { token } = one.api.tokens.mint({ namespace: 'default', serviceAccount: 'nobody' });
    expect((await ask(one, '/apis', { token })).status).toBe(200);
    const refused = await ask(one, '/api/v1/nodes/n1', { token });
    expect(refused.status).toBe(403);
    expect(refused.body).toContain(
      'nodes \\"n1\\" is forbidden: User \\"system:serviceaccount:default:nobody\\" cannot get resource \\"nodes\\" in API group \\"\\" at the cluster scope',
    );
    const asAdmin = {
      token,
      headers: { 'impersonate-user': 'root', 'impersonate-group': 'system:masters' },
    };
    expect((await ask(one, '/api/v1/secrets', asAdmin)).status).toBe(403);
  });

  test('TokenReview knows the pod and node of a bound token, its audience, and that a deleted pod ends it', async () => {
    const one = await start();
    const { store, tokens } = one.api;
    store.create(
      { group: '', resource: 'serviceaccounts' },
      {
        apiVersion: 'v1',
        kind: 'ServiceAccount',
        metadata: { name: 'default', namespace: 'default' },
      },
    );
    store.create(pods, {
      ...pod('p'),
      spec: { nodeName: 'n1', containers: [{ name: 'c', image: 'shop:1' }] },
    });
    const client = configOf(one).makeApiClient(CoreV1Api);
    const bound = Object.assign(new V1BoundObjectReference(), {
      kind: 'Pod',
      apiVersion: 'v1',
      name: 'p',
    });
    const asked = Object.assign(new AuthenticationV1TokenRequest(), {
      spec: Object.assign(new V1TokenRequestSpec(), {
        audiences: ['istio-ca'],
        expirationSeconds: 600,
        boundObjectRef: bound,
      }),
    });
    const issued = await client.createNamespacedServiceAccountToken({
      name: 'default',
      namespace: 'default',
      body: asked,
    });
    const token = issued.status?.token ?? '';
    const review = (audiences: string[]): Promise<V1TokenReview> => {
      const body = Object.assign(new V1TokenReview(), {
        spec: Object.assign(new V1TokenReviewSpec(), { token, audiences }),
      });
      return configOf(one).makeApiClient(AuthenticationV1Api).createTokenReview({ body });
    };
    const good = await review(['istio-ca']);
    expect(good.status).toMatchObject({
      authenticated: true,
      audiences: ['istio-ca'],
      user: {
        username: 'system:serviceaccount:default:default',
        extra: {
          'authentication.kubernetes.io/pod-name': ['p'],
          'authentication.kubernetes.io/pod-uid': [store.get(pods, 'default', 'p')?.metadata.uid],
          'authentication.kubernetes.io/node-name': ['n1'],
        },
      },
    });
    expect((await review(['other'])).status).toMatchObject({ authenticated: false });
    expect(tokens.verify(token).ok).toBe(false);
    store.delete(pods, 'default', 'p', { gracePeriodSeconds: 0 });
    expect((await review(['istio-ca'])).status).toMatchObject({
      authenticated: false,
      error: 'the pod the token is bound to has been deleted',
    });
  });
});

describe('watching', () => {
  test("client-node's watch sees what is there and what changes", async () => {
    const one = await start();
    one.api.store.create(configMaps, configMap('a'));
    const seen: string[] = [];
    let arrived: () => void = () => undefined;
    const all = new Promise<void>((resolve) => (arrived = resolve));
    const abort = await new Watch(configOf(one)).watch(
      '/api/v1/namespaces/default/configmaps',
      {},
      (phase: string, object: KubernetesObject) => {
        seen.push(`${phase} ${object.metadata?.name ?? ''}`);
        if (seen.length === 1)
          one.api.store.patchMerge(configMaps, 'default', 'a', { data: { x: 'y' } });
        if (seen.length === 2) one.api.store.delete(configMaps, 'default', 'a');
        if (seen.length === 3) arrived();
      },
      () => undefined,
    );
    await all;
    abort.abort();
    expect(seen).toEqual(['ADDED a', 'MODIFIED a', 'DELETED a']);
  });

  test('a selector turns changes into coming and going', async () => {
    const one = await start();
    const { store } = one.api;
    const { resourceVersion } = store.list(configMaps);
    store.create(configMaps, configMap('a'));
    store.patchMerge(configMaps, 'default', 'a', { metadata: { labels: { on: 'yes' } } });
    store.patchMerge(configMaps, 'default', 'a', { data: { x: 'y' } });
    store.patchMerge(configMaps, 'default', 'a', { metadata: { labels: { on: null } } });
    const path = `/api/v1/configmaps?watch=true&labelSelector=on%3Dyes&timeoutSeconds=1&resourceVersion=${resourceVersion}`;
    expect(frames(await ask(one, path)).map(({ type }) => type)).toEqual([
      'ADDED',
      'MODIFIED',
      'DELETED',
    ]);
  });

  test('a version that is forgotten is a 410 in the stream', async () => {
    const one = await start({ watchWindow: 2 });
    for (const name of ['a', 'b', 'c', 'd']) one.api.store.create(configMaps, configMap(name));
    const answer = await ask(one, '/api/v1/configmaps?watch=true&resourceVersion=1');
    expect(answer.status).toBe(200);
    expect(frames(answer)).toMatchObject([
      { type: 'ERROR', object: { kind: 'Status', code: 410, reason: 'Expired' } },
    ]);
  });

  test('a watch-list ends its first part with a marked bookmark', async () => {
    const one = await start();
    one.api.store.create(configMaps, configMap('a'));
    const query =
      'watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true';
    const [first, second] = frames(await ask(one, `/api/v1/configmaps?${query}&timeoutSeconds=1`));
    expect(first).toMatchObject({ type: 'ADDED', object: { metadata: { name: 'a' } } });
    expect(second).toMatchObject({
      type: 'BOOKMARK',
      object: { metadata: { annotations: { 'k8s.io/initial-events-end': 'true' } } },
    });
  });

  test('a table is watched in rows', async () => {
    const one = await start();
    one.api.store.create(pods, pod('p'));
    const headers = { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json' };
    const [first] = frames(await ask(one, '/api/v1/pods?watch=1&timeoutSeconds=1', { headers }));
    expect(first).toMatchObject({ type: 'ADDED', object: { kind: 'Table' } });
    expect((first?.object['rows'] as { cells: unknown[] }[])[0]?.cells.slice(0, 4)).toEqual([
      'p',
      '0/1',
      'Pending',
      '0',
    ]);
  });
});

describe('reading and writing', () => {
  test('pages a list and refuses a continue token that is made up', async () => {
    const one = await start();
    for (const name of ['a', 'b', 'c']) one.api.store.create(configMaps, configMap(name));
    const path = '/api/v1/namespaces/default/configmaps?limit=2';
    const first = JSON.parse((await ask(one, path)).body) as {
      items: KubeObject[];
      metadata: Record<string, unknown>;
    };
    expect(first.items.map(({ metadata }) => metadata.name)).toEqual(['a', 'b']);
    expect(first.metadata['remainingItemCount']).toBe(1);
    const next = await ask(one, `${path}&continue=${String(first.metadata['continue'])}`);
    const second = JSON.parse(next.body) as typeof first;
    expect(second.items.map(({ metadata }) => metadata.name)).toEqual(['c']);
    expect((await ask(one, `${path}&continue=bm9uc2Vuc2U`)).status).toBe(410);
  });

  test('a dry run answers and keeps nothing', async () => {
    const one = await start();
    const path = '/api/v1/namespaces/default/configmaps';
    const answer = await ask(one, `${path}?dryRun=All`, { method: 'POST', body: configMap('a') });
    expect(answer.status).toBe(201);
    expect((await ask(one, `${path}/a`)).status).toBe(404);
  });

  test('an update with an old version is a conflict, a wrong field a warning or a refusal as asked', async () => {
    const one = await start();
    const path = '/api/v1/namespaces/default/configmaps';
    await ask(one, path, { method: 'POST', body: configMap('a') });
    const stale = {
      ...configMap('a', { x: '1' }),
      metadata: { ...configMap('a').metadata, resourceVersion: '1' },
    };
    expect((await ask(one, `${path}/a`, { method: 'PUT', body: stale })).status).toBe(409);
    const wrong = { ...configMap('a'), dataa: {} };
    const warned = await ask(one, `${path}/a?fieldValidation=Warn`, { method: 'PUT', body: wrong });
    expect(warned.headers['warning']).toBe('299 - "unknown field \\"dataa\\""');
    expect(
      (await ask(one, `${path}/a?fieldValidation=Strict`, { method: 'PUT', body: wrong })).status,
    ).toBe(400);
  });

  test('a body beyond the limit is refused', async () => {
    const one = await start();
    const body = configMap('big', { x: 'x'.repeat(3 * 1024 * 1024) });
    const answer = await ask(one, '/api/v1/namespaces/default/configmaps', {
      method: 'POST',
      body,
    });
    expect(answer.status).toBe(413);
  });

  test('a pod stream without a kubelet is unavailable', async () => {
    const one = await start();
    one.api.store.create(pods, pod('p'));
    expect((await ask(one, '/api/v1/namespaces/default/pods/p/log')).status).toBe(503);
    expect((await ask(one, '/api/v1/namespaces/default/pods/q/log')).status).toBe(404);
  });
});

describe('where it listens and what it keeps', () => {
  test('serves a unix socket and a socket that was accepted elsewhere', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ambit-api-'));
    folders.push(folder);
    const socketPath = join(folder, 'api.sock');
    const one = await start({ listen: [{ path: socketPath }] });
    const local = { ...one, server: 'https://localhost' };
    expect((await ask(local, '/healthz', { socketPath })).body).toBe('ok');
    const front = createServer((socket) => one.api.accept(socket));
    await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve));
    const { port } = front.address() as AddressInfo;
    expect((await ask({ ...one, server: `https://127.0.0.1:${port}` }, '/healthz')).body).toBe(
      'ok',
    );
    await new Promise((resolve) => front.close(resolve));
  });

  test('a client that speaks no TLS is dropped and harms nobody', async () => {
    const one = await start();
    const port = Number(new URL(one.server).port);
    await new Promise<void>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => socket.write('GET / HTTP/1.1\r\n\r\n'));
      socket.on('error', () => undefined);
      socket.on('close', () => resolve());
    });
    expect((await ask(one, '/healthz')).status).toBe(200);
  });

  test('a restart keeps objects, versions, custom resources and tokens', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ambit-api-'));
    folders.push(folder);
    const options = {
      stateFile: join(folder, 'state.json'),
      adminToken: 'the-same-token-of-both-runs',
    };
    const first = await startTestApi(options);
    const accounts = { group: '', resource: 'serviceaccounts' };
    first.api.store.create(configMaps, configMap('kept', { x: 'y' }));
    const account = {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: 'sa', namespace: 'default' },
    };
    first.api.store.create(accounts, account);
    const { token } = first.api.tokens.mint({ namespace: 'default', serviceAccount: 'sa' });
    const before = first.api.store.get(configMaps, 'default', 'kept');
    await first.api.close();
    const second = await start(options);
    expect(second.api.store.get(configMaps, 'default', 'kept')).toEqual(before);
    expect(second.api.tokens.verify(token).ok).toBe(true);
    const later = second.api.store.patchMerge(configMaps, 'default', 'kept', { data: { x: 'z' } });
    expect(Number(later.metadata.resourceVersion)).toBeGreaterThan(
      Number(before?.metadata.resourceVersion),
    );
    const old = await ask(
      second,
      `/api/v1/configmaps?watch=1&resourceVersion=${before?.metadata.resourceVersion ?? ''}`,
    );
    expect(frames(old)).toMatchObject([{ type: 'ERROR', object: { code: 410 } }]);
  });
});
