import type { AddressInfo } from 'node:net';

import type { MeshSettings } from '@ambit/api';

import type { Authority } from './ca/authority.ts';
import { createAuthenticator } from './ca/authenticate.ts';
import type { AuthorityKeeper } from './ca/keeper.ts';
import { startAuthorityKeeper } from './ca/keeper.ts';
import type { NodeAuthorization, PodView } from './ca/node-authorizer.ts';
import { authenticated, createCertificateServer } from './ca/server.ts';
import type { Serving } from './ca/serving.ts';
import { makeServing, servingNames } from './ca/serving.ts';
import type { MeshCollections, Sources } from './collections/mesh.ts';
import { createMeshCollections } from './collections/mesh.ts';
import type { ControllerConfig } from './config.ts';
import type { KubeClient } from './kube/client.ts';
import { createKubeClient, loadKubeConfig } from './kube/client.ts';
import type { ReflectorTimings } from './kube/reflector.ts';
import type { Watches } from './kube/watches.ts';
import { startWatches } from './kube/watches.ts';
import type { Log } from './log.ts';
import type { Hub } from './push/hub.ts';
import { createHub } from './push/hub.ts';
import type { Listener } from './push/listener.ts';
import { startListener } from './push/listener.ts';
import { SnapshotState } from './push/state.ts';

/** What a controller is given from outside; tests give their own. */
export interface ControllerDeps {
  readonly log: Log;
  /** Made from the configuration when absent. */
  readonly client?: KubeClient;
  readonly nowMs?: () => number;
  readonly timings?: Partial<ReflectorTimings>;
}

export interface Controller {
  readonly addresses: { readonly control: AddressInfo };
  close(): Promise<void>;
}

/** Builds the controller in order: authority, sources, compilation, push. Resolves once it takes proxies. */
export async function startController(
  config: ControllerConfig,
  deps: ControllerDeps,
): Promise<Controller> {
  const log = deps.log;
  const nowMs = deps.nowMs ?? Date.now;
  const client = deps.client ?? createKubeClient(loadKubeConfig(config.kubeconfig));
  const timings = deps.timings === undefined ? {} : { timings: deps.timings };
  const collections = createMeshCollections(config);
  const { sources } = collections;
  const pods = podView(sources);
  const authorization: NodeAuthorization = {
    trustDomain: config.trustDomain,
    trustedAccounts: config.trustedNodeAccounts,
  };
  const authenticate = createAuthenticator({ client, nowMs });
  let hub: Hub | undefined;
  const keeper = startAuthorityKeeper({
    client,
    rootNamespace: config.rootNamespace,
    trustDomain: config.trustDomain,
    nowMs,
    ...timings,
    log,
    onChange: (authority) => {
      sources.settings.set('default', settingsOf(config, authority));
      hub?.changed();
    },
  });
  const certificates = createCertificateServer({
    authority: () => keeper.current(),
    authenticate,
    authorization,
    pods,
    ttlMs: config.certificateTtlMs,
    nowMs,
    log,
  });
  hub = newHub(config, collections, certificates, log);
  const watches = startWatches({
    client,
    sources,
    ...timings,
    log,
    onChange: () => hub.changed(),
  });
  await keeper.whenReady;
  const serving = await startServing(config, keeper, nowMs, log);
  const listener = await startListener({
    host: config.host,
    port: config.controlPort,
    certificate: serving.current(),
    hub,
    log,
    admit: (token) =>
      watches.synced
        ? authenticated(token, { authenticate, authorization, pods })
        : Promise.resolve({
            ok: false,
            error: { code: 'unavailable', reason: `not synced: ${watches.awaited().join(', ')}` },
          }),
  });
  serving.follow((certificate) => listener.useCertificate(certificate));
  void watches.whenSynced.then(() => {
    hub.synced();
    log.info({ ...sizes(collections) }, 'all sources are known');
  });
  return {
    addresses: { control: listener.address },
    close: () => closeAll({ hub, listener, watches, keeper, serving, client }),
  };
}

function newHub(
  config: ControllerConfig,
  collections: MeshCollections,
  certificates: ReturnType<typeof createCertificateServer>,
  log: Log,
): Hub {
  return createHub({
    state: new SnapshotState(collections.outputs),
    flush: () => collections.flush(),
    certificates,
    debounce: { quietMs: config.debounceQuietMs, maxMs: config.debounceMaxMs },
    log,
  });
}

function podView(sources: Sources): PodView {
  return {
    podByName: (namespace, name) => sources.pods.get(`${namespace}/${name}`),
    runsOnNode: (node, namespace, serviceAccount) =>
      sources.pods.find('account', `${node}/${namespace}/${serviceAccount}`).length > 0,
  };
}

function settingsOf(config: ControllerConfig, authority: Authority): MeshSettings {
  return {
    trustDomain: config.trustDomain,
    trustDomainAliases: config.trustDomainAliases,
    roots: authority.rootsPem,
    clusterId: config.clusterId,
    rootNamespace: config.rootNamespace,
  };
}

function sizes(collections: MeshCollections): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const output of collections.outputs as readonly { name: string; size: number }[]) {
    counts[output.name] = output.size;
  }
  return counts;
}

interface ServingKeeper {
  current(): Serving;
  follow(use: (serving: Serving) => void): void;
  close(): void;
}

const servingCheckMs = 30_000;

/** Renews the control port's certificate; by the wall clock every half minute, so that a suspended machine catches up. */
async function startServing(
  config: ControllerConfig,
  keeper: AuthorityKeeper,
  nowMs: () => number,
  log: Log,
): Promise<ServingKeeper> {
  const names = servingNames(config.rootNamespace, config.clusterDomain, config.servingNames);
  const make = async (): Promise<Serving> => {
    const authority = keeper.current();
    if (authority === undefined) throw new TypeError('there is no certificate authority');
    signer = authority;
    return makeServing(authority, names, { nowMs: nowMs(), ttlMs: config.certificateTtlMs });
  };
  let signer: Authority | undefined;
  let current = await make();
  let use: (serving: Serving) => void = () => undefined;
  const timer = setInterval(() => {
    if (nowMs() < current.renewAtMs && signer === keeper.current()) return;
    make().then(
      (renewed) => {
        current = renewed;
        use(renewed);
      },
      (error: unknown) => log.error({ err: error }, 'the serving certificate was not renewed'),
    );
  }, servingCheckMs);
  return {
    current: () => current,
    follow: (next) => (use = next),
    close: () => clearInterval(timer),
  };
}

interface Parts {
  readonly hub: Hub;
  readonly listener: Listener;
  readonly watches: Watches;
  readonly keeper: AuthorityKeeper;
  readonly serving: ServingKeeper;
  readonly client: KubeClient;
}

async function closeAll({ hub, listener, watches, keeper, serving, client }: Parts): Promise<void> {
  serving.close();
  hub.close();
  await listener.close();
  await Promise.all([watches.close(), keeper.close()]);
  client.close();
}
