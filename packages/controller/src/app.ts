import type { AddressInfo } from 'node:net';

import type { Upsert } from '@ambit/api';
import { redactedCredential, resourceTypes } from '@ambit/api';
import { createMetrics } from '@ambit/core';

import type { Admin } from './admin.ts';
import { startAdmin } from './admin.ts';
import type { Authority } from './ca/authority.ts';
import { createAuthenticator } from './ca/authenticate.ts';
import type { AuthorityKeeper } from './ca/keeper.ts';
import { startAuthorityKeeper } from './ca/keeper.ts';
import type { NodeAuthorization, PodView } from './ca/node-authorizer.ts';
import { authorizeNodeProxy } from './ca/node-authorizer.ts';
import type { Publisher } from './ca/publish.ts';
import { startRootPublisher } from './ca/publish.ts';
import { authenticated, createCertificateServer } from './ca/server.ts';
import type { ServingKeeper } from './ca/serving.ts';
import { servingNames, startServingKeeper } from './ca/serving.ts';
import type { ReadableCollection } from './collections/collection.ts';
import type { MeshCollections } from './collections/mesh.ts';
import type { MeshBasics, Sources } from './collections/sources.ts';
import { secretsOf } from './collections/credentials.ts';
import { createMeshCollections } from './collections/mesh.ts';
import type { ControllerConfig } from './config.ts';
import type { KubeClient } from './kube/client.ts';
import { createKubeClient, loadKubeConfig } from './kube/client.ts';
import type { Problem } from './kube/decode/fields.ts';
import type { ReflectorTimings } from './kube/reflector.ts';
import { decodeParameters } from './kube/decode/parameters.ts';
import { decodeSecret } from './kube/decode/secret.ts';
import type { NamedWatches } from './kube/named-watches.ts';
import { startNamedWatches } from './kube/named-watches.ts';
import type { Scope } from './kube/scope.ts';
import { followScope } from './kube/scope.ts';
import type { Watches } from './kube/watches.ts';
import { startWatches } from './kube/watches.ts';
import type { LeaseTimings } from './lease/lease.ts';
import type { Log } from './log.ts';
import type { ControllerMetrics, Figures } from './metrics.ts';
import { createControllerMetrics } from './metrics.ts';
import type { Hub } from './push/hub.ts';
import { createHub } from './push/hub.ts';
import type { Listener } from './push/listener.ts';
import { startListener } from './push/listener.ts';
import { startReportRelay } from './push/report-relay.ts';
import { SnapshotState } from './push/state.ts';
import type { Rivals } from './rivals.ts';
import { watchRivals } from './rivals.ts';
import type { Validation } from './webhook/index.ts';
import { startValidation } from './webhook/index.ts';
import type { Writing } from './writers.ts';
import { startWriters, startWriting } from './writers.ts';

/** What a controller is given from outside; tests give their own. */
export interface ControllerDeps {
  readonly log: Log;
  /** Made from the configuration when absent. */
  readonly client?: KubeClient;
  readonly nowMs?: () => number;
  readonly timings?: Partial<ReflectorTimings>;
  readonly leaseTimings?: LeaseTimings;
  /** Between pings of proxies. */
  readonly pingMs?: number;
}

export interface Controller {
  readonly addresses: {
    readonly control: AddressInfo;
    readonly metrics: AddressInfo;
    readonly webhook: AddressInfo;
  };
  /** Settles once everything has been listed; readiness tells the same. */
  readonly whenSynced: Promise<void>;
  close(): Promise<void>;
}

/** Builds the controller in order: authority, sources, compilation, push. Resolves once it takes proxies. */
export async function startController(
  config: ControllerConfig,
  deps: ControllerDeps,
): Promise<Controller> {
  const core = startCore(config, deps);
  try {
    const admin = await startOwnPort(config, core);
    core.closers.push(() => admin.close());
    await core.keeper.whenReady;
    const serving = await startServingKeeper({
      authority: () => core.keeper.current(),
      names: servingNames(config.rootNamespace, config.clusterDomain, config.servingNames),
      ttlMs: config.certificateTtlMs,
      nowMs: core.nowMs,
      onError: (error) => deps.log.error({ err: error }, 'the serving certificate was not renewed'),
    });
    core.closers.push(() => {
      serving.close();
      return Promise.resolve();
    });
    const listener = await startControlPort(config, core, serving, deps);
    core.closers.push(() => listener.close());
    const validation = await startValidationPort(config, core, serving, deps);
    core.closers.push(() => validation.close());
    core.onAuthority.push(() => serving.check(), validation.changed);
    const whenSynced = core.watches.whenSynced.then(async () => {
      // A proxy that holds a credential must not be told that it is gone only because it was not read yet.
      core.collections.flush();
      await core.secrets.settled();
      core.hub.synced();
      const resources = Object.fromEntries(figuresOf(core).resources);
      deps.log.info({ resources }, 'all sources are known');
    });
    return {
      addresses: {
        control: listener.address,
        metrics: admin.address,
        webhook: validation.address,
      },
      whenSynced,
      close: () => closeAll(core),
    };
  } catch (error) {
    await closeAll(core);
    throw error;
  }
}

interface Core {
  readonly log: Log;
  readonly nowMs: () => number;
  readonly client: KubeClient;
  readonly collections: MeshCollections;
  readonly scope: Scope;
  readonly state: SnapshotState;
  readonly keeper: AuthorityKeeper;
  readonly watches: Watches;
  readonly secrets: NamedWatches;
  readonly parameters: NamedWatches;
  readonly hub: Hub;
  readonly publisher: Publisher;
  readonly rivals: Rivals;
  readonly writing: Writing;
  readonly writers: { close(): Promise<void> };
  readonly admit: Parameters<typeof startListener>[0]['admit'];
  readonly isStillGood: Parameters<typeof startListener>[0]['isStillGood'];
  readonly registry: ReturnType<typeof createMetrics>;
  readonly metrics: ControllerMetrics;
  /** Told when another authority signs. */
  readonly onAuthority: (() => void)[];
  /** What was opened later, in order. */
  readonly closers: (() => Promise<void>)[];
}

function startCore(config: ControllerConfig, deps: ControllerDeps): Core {
  const { log, nowMs = Date.now } = deps;
  const client = deps.client ?? createKubeClient(loadKubeConfig(config.kubeconfig));
  const onChange = (): void => hub.changed();
  const registry = createMetrics({ processFigures: true });
  const metrics = createControllerMetrics(registry);
  const collections = createMeshCollections(config);
  const state = new SnapshotState(collections.outputs);
  const { sources } = collections;
  const scope = followScope(sources, config.rootNamespace);
  const common = { ...config, client, log, onChange, sources, scope, ...timingsOf(deps) };
  const identified = identification(config, collections, client, nowMs);
  const certificates = createCertificateServer({
    ...identified,
    authority: () => keeper.current(),
    ttlMs: config.certificateTtlMs,
    nowMs,
    log,
    onAnswer: (outcome) => metrics.certificates(outcome),
  });
  const onAuthority: (() => void)[] = [];
  const hub = createHub({
    state,
    flush: () => collections.flush(),
    certificates,
    debounce: { quietMs: config.debounceQuietMs, maxMs: config.debounceMaxMs },
    log,
    onPush: () => metrics.push(),
    onRejected: (type) => metrics.rejected(type),
    onReport: (connection, problems) => relay.heard(connection, problems),
  });
  const watches = startWatches(common);
  const relay = startReportRelay(common);
  const rivals = watchRivals(sources, config.rootNamespace, log);
  const writing = startWriting({
    config,
    client,
    nowMs,
    log,
    // What is written before everything is known would have to be written again.
    mayWrite: () => watches.synced && rivals.reason() === undefined,
    ...(deps.leaseTimings === undefined ? {} : { timings: deps.leaseTimings }),
  });
  const publisher = startRootPublisher({
    ...common,
    ...writing,
    roots: () => keeper.current()?.rootsPem,
  });
  const keeper = startAuthorityKeeper({
    ...common,
    nowMs,
    onChange: (authority) => {
      sources.settings.set('default', settingsOf(config, authority));
      publisher.rootsChanged();
      for (const tell of onAuthority) tell();
      hub.changed();
    },
  });
  return {
    log,
    nowMs,
    client,
    collections,
    scope,
    state,
    keeper,
    watches,
    secrets: watchSecrets(collections, common),
    parameters: watchParameters(collections, common),
    hub,
    publisher,
    rivals,
    writing,
    writers: startWriters(writing, { config, collections, scope, rivals, nowMs, log }),
    ...admission(watches, identified),
    registry,
    metrics,
    onAuthority,
    closers: [() => relay.close()],
  };
}

function identification(
  config: ControllerConfig,
  { sources, l7 }: MeshCollections,
  client: KubeClient,
  nowMs: () => number,
): Parameters<typeof authenticated>[1] {
  const authorization: NodeAuthorization = {
    trustDomain: config.trustDomain,
    trustedAccounts: config.trustedNodeAccounts,
    gatewayAccount: (namespace, gateway) => {
      const key = `${namespace}/${gateway}`;
      const waypoint = l7.waypoints.get(key);
      const isOwn = sources.gatewayAccounts.get(key)?.gatewayUid === waypoint?.meta.uid;
      return isOwn ? waypoint?.gateway.name : undefined;
    },
  };
  const authenticate = createAuthenticator({ client, nowMs });
  return { authenticate, authorization, pods: podView(sources) };
}

function admission(
  watches: Watches,
  identified: Parameters<typeof authenticated>[1],
): Pick<Core, 'admit' | 'isStillGood'> {
  return {
    admit: async (token) => {
      // Before every pod is known, a good proxy could not be told from a bad one.
      if (watches.synced) return authenticated(token, identified);
      const reason = `not synced: ${watches.awaited().join(', ')}`;
      return { ok: false, error: { code: 'unavailable', reason } };
    },
    isStillGood: ({ caller }) =>
      authorizeNodeProxy(caller, identified.pods, identified.authorization).ok,
  };
}

function timingsOf({ timings }: ControllerDeps): Pick<ControllerDeps, 'timings'> {
  return timings === undefined ? {} : { timings };
}

function watchSecrets(
  { l7, sources }: MeshCollections,
  options: Pick<Parameters<typeof startNamedWatches>[0], 'client' | 'log' | 'timings' | 'onChange'>,
): NamedWatches {
  return startNamedWatches({
    ...options,
    what: { plural: 'secrets', kind: 'Secret' },
    decode: decodeSecret,
    users: l7.destinationRules,
    namesOf: secretsOf,
    into: sources.secrets,
  });
}

function watchParameters(
  { l7, sources }: MeshCollections,
  options: Parameters<typeof watchSecrets>[1],
): NamedWatches {
  return startNamedWatches({
    ...options,
    what: { plural: 'configmaps', kind: 'ConfigMap' },
    decode: decodeParameters,
    users: l7.waypoints,
    namesOf: ({ parameters }) => (parameters === undefined ? [] : [parameters]),
    into: sources.parameters,
  });
}

function startControlPort(
  config: ControllerConfig,
  core: Core,
  serving: ServingKeeper,
  { pingMs }: Pick<ControllerDeps, 'pingMs'>,
): Promise<Listener> {
  const listening = startListener({
    host: config.host,
    port: config.controlPort,
    certificate: serving.current(),
    hub: core.hub,
    log: core.log,
    admit: core.admit,
    isStillGood: core.isStillGood,
    nowMs: core.nowMs,
    ...(pingMs === undefined ? {} : { pingMs }),
  });
  return listening.then((listener) => {
    serving.follow((certificate) => listener.useCertificate(certificate));
    return listener;
  });
}

function startValidationPort(
  config: ControllerConfig,
  { writing, collections, scope, keeper, metrics, log }: Core,
  serving: ServingKeeper,
  deps: ControllerDeps,
): Promise<Validation> {
  return startValidation({
    config,
    client: writing.client,
    gate: writing.gate,
    collections,
    scope,
    serving,
    roots: () => keeper.current()?.rootsPem,
    onAnswer: (outcome) => metrics.validated(outcome),
    log,
    ...timingsOf(deps),
  });
}

function startOwnPort(config: ControllerConfig, core: Core): Promise<Admin> {
  return startAdmin({
    host: config.host,
    port: config.metricsPort,
    pending: () => [
      ...authorityAwaited(core.keeper),
      ...core.watches.awaited(),
      ...waitsFor(core.rivals),
    ],
    metrics: async () => {
      core.metrics.observe(figuresOf(core));
      return { contentType: core.registry.contentType, text: await core.registry.render() };
    },
    debug: new Map<string, () => unknown>([
      ['proxies', () => core.hub.proxies()],
      ['resources', () => allResources(core.state)],
      ['problems', () => problemsOf(core)],
      ['collections', () => core.collections.recomputations()],
    ]),
  });
}

function authorityAwaited(keeper: AuthorityKeeper): readonly string[] {
  if (keeper.current() !== undefined) return [];
  const reason = keeper.reason();
  return [`certificate authority${reason === undefined ? '' : `: ${reason}`}`];
}

function waitsFor(rivals: Rivals): readonly string[] {
  const reason = rivals.reason();
  return reason === undefined ? [] : [`another mesh to go: ${reason}`];
}

function allResources(state: SnapshotState): unknown {
  const shown = (upsert: Upsert): Upsert =>
    upsert.type === 'credential'
      ? { ...upsert, resource: redactedCredential(upsert.resource) }
      : upsert;
  return Object.fromEntries(
    resourceTypes.map((type) => [type, [...state.all(type).values()].map(shown)]),
  );
}

function problemsOf({ collections, watches }: Core): unknown {
  const { l7, judged } = collections;
  const compiled: readonly ReadableCollection<{ readonly problems: readonly Problem[] }>[] = [
    judged.policies,
    judged.peerAuthentications,
    judged.authentications,
    judged.telemetries,
    judged.rateLimits,
    l7.waypoints,
    l7.virtualServices,
    l7.destinationRules,
  ];
  return [
    ...watches.problems(),
    ...[...collections.sources.meshConfig.entries()].flatMap(([, { problems }]) => problems),
    ...compiled.flatMap((one) => [...one.entries()].flatMap(([, value]) => value.problems)),
  ];
}

function figuresOf(core: Core): Figures {
  const { hub, watches, collections, keeper, rivals, secrets, parameters, state, writing } = core;
  const ages = [...watches.ages()].map(([kind, ms]) => [kind, ms / 1000] as const);
  return {
    proxies: hub.proxies().length,
    writes: writing.lease.term() !== undefined,
    otherMeshes: rivals.count,
    unread: new Map([
      ['Secret', secrets.waiting()],
      ['ConfigMap', parameters.waiting()],
    ]),
    watchAges: new Map(ages),
    recomputations: collections.recomputations(),
    resources: new Map(resourceTypes.map((type) => [type, state.all(type).size])),
    authorityEndsMs: keeper.current()?.notAfter.getTime(),
  };
}

function podView(sources: Sources): PodView {
  return {
    podByName: (namespace, name) => sources.pods.get(`${namespace}/${name}`),
    runsOnNode: (node, namespace, serviceAccount) =>
      sources.pods.find('account', `${node}/${namespace}/${serviceAccount}`).length > 0,
  };
}

function settingsOf(config: ControllerConfig, authority: Authority): MeshBasics {
  return {
    trustDomain: config.trustDomain,
    trustDomainAliases: config.trustDomainAliases,
    roots: authority.rootsPem,
    clusterId: config.clusterId,
    rootNamespace: config.rootNamespace,
  };
}

async function closeAll(core: Core): Promise<void> {
  core.hub.close();
  for (const close of [...core.closers].reverse()) await close();
  core.closers.length = 0;
  await Promise.all([
    core.watches.close(),
    core.secrets.close(),
    core.parameters.close(),
    core.keeper.close(),
    core.publisher.close(),
  ]);
  await core.writers.close();
  // Last, because whoever gets it writes at once.
  await core.writing.lease.close();
  core.client.close();
}
