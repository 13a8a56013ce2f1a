import { randomBytes } from 'node:crypto';
import type { Server } from 'node:https';
import { createServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { rm } from 'node:fs/promises';
import { ensureBootstrapRoles } from './bootstrap-roles.ts';
import { builtinResources } from './builtins.ts';
import type { ApiContext, DialService, KubeletProxy } from './context.ts';
import { startCustomResources } from './crds.ts';
import { startGarbageCollection } from './garbage.ts';
import { handleRequest, handleUpgrade } from './handle.ts';
import { openStateFile } from './persistence.ts';
import { Registry } from './registry.ts';
import { Storage } from './storage.ts';
import { ObjectStore } from './store.ts';
import type { Tokens } from './tokens.ts';
import { createTokens } from './tokens.ts';

export type ListenAt =
  | { readonly host: string; readonly port: number }
  /** A unix socket, which speaks the same TLS; one that a killed run left is replaced. */
  | { readonly path: string };

export interface ApiServerOptions {
  /** PEM of the serving certificate and its key. */
  readonly tls: { readonly cert: string; readonly key: string };
  readonly listen: readonly ListenAt[];
  /** Bearer token of the administrator; a random one where absent. */
  readonly adminToken?: string;
  /** `iss` of service-account tokens and base of the OIDC addresses. */
  readonly issuer?: string;
  /** Keeps everything over a restart. */
  readonly stateFile?: string;
  readonly kubeletProxy?: KubeletProxy;
  /** Reaches the webhooks that are named by a Service; without it only those with a URL can be asked. */
  readonly dialService?: DialService;
  /** What went wrong while nobody was there to be told. */
  readonly onError?: (error: unknown) => void;
  readonly now?: () => number;
  /** Changes of one resource a watch can resume over. */
  readonly watchWindow?: number;
}

export interface ApiServer {
  readonly store: ObjectStore;
  readonly tokens: Tokens;
  readonly addresses: readonly ListenAt[];
  /** Serves a connection that was accepted elsewhere, such as in another network namespace. */
  accept(socket: Socket): void;
  /** Ends watches and connections, saves the state. */
  close(): Promise<void>;
}

const defaultIssuer = 'https://kubernetes.default.svc.cluster.local';
const minimumWatchSeconds = 1800;

/** Starts the Kubernetes API of the sandbox. */
export async function createApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const now = options.now ?? Date.now;
  const onError = options.onError ?? ((): void => undefined);
  const storage = new Storage(onError, options.watchWindow);
  const store = new ObjectStore(storage, new Registry(builtinResources), now);
  const stateFile =
    options.stateFile === undefined
      ? undefined
      : await openStateFile(options.stateFile, storage, onError);
  const tokens = createTokens({
    store,
    issuer: options.issuer ?? defaultIssuer,
    adminToken: options.adminToken ?? randomBytes(24).toString('base64url'),
    signingKey: stateFile?.signingKey,
    now,
  });
  const saving = stateFile?.follow(tokens.privateKeyPem());
  const customResources = startCustomResources(store, now);
  const garbage = startGarbageCollection(store);
  ensureBootstrapRoles(store);
  let addresses: readonly ListenAt[] = [];
  const context: ApiContext = {
    store,
    tokens,
    now,
    minimumWatchSeconds,
    kubeletProxy: options.kubeletProxy,
    dialService: options.dialService,
    serverAddress: () =>
      addresses.map((one) => ('host' in one ? `${one.host}:${one.port}` : '')).find(Boolean) ?? '',
  };
  const sockets = new Set<Socket>();
  const newServer = (): Server => createHttpsServer(context, options.tls, sockets, onError);
  const inner = newServer();
  const servers: Server[] = [];
  try {
    for (const at of options.listen) {
      const server = newServer();
      servers.push(server);
      addresses = [...addresses, await listen(server, at)];
    }
  } catch (error) {
    for (const server of servers) server.close();
    await saving?.close();
    throw error;
  }
  return {
    store,
    tokens,
    addresses,
    accept: (socket) => {
      sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => sockets.delete(socket));
      inner.emit('connection', socket);
    },
    async close() {
      garbage.close();
      customResources.close();
      const closed = servers.map(
        (server) => new Promise<void>((resolve) => server.close(() => resolve())),
      );
      for (const socket of sockets) socket.destroy();
      await Promise.all(closed);
      await saving?.close();
    },
  };
}

function createHttpsServer(
  context: ApiContext,
  tls: { readonly cert: string; readonly key: string },
  sockets: Set<Socket>,
  onError: (error: unknown) => void,
): Server {
  const server = createServer({
    ...tls,
    ALPNProtocols: ['http/1.1'],
    maxHeaderSize: 64 * 1024,
    requestTimeout: 60_000,
  });
  server.on('request', (request, response) => {
    response.on('error', () => response.destroy());
    void handleRequest(context, request, response, onError);
  });
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => socket.destroy());
    handleUpgrade(context, request, socket, head);
  });
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.on('tlsClientError', (_error, socket) => socket.destroy());
  server.on('clientError', (_error, socket) => socket.destroy());
  return server;
}

async function listen(server: Server, at: ListenAt): Promise<ListenAt> {
  if ('path' in at) await rm(at.path, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen('path' in at ? { path: at.path } : { host: at.host, port: at.port }, () => {
      server.off('error', reject);
      resolve();
    });
  });
  if ('path' in at) return at;
  return { host: at.host, port: (server.address() as AddressInfo).port };
}
