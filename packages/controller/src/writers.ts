import { randomUUID } from 'node:crypto';

import type { MeshCollections } from './collections/mesh.ts';
import type { ControllerConfig } from './config.ts';
import { startDeployer } from './deploy/deployer.ts';
import type { DeploySettings } from './deploy/objects.ts';
import type { KubeClient } from './kube/client.ts';
import type { Gate } from './kube/reconciler.ts';
import type { Scope } from './kube/scope.ts';
import { fencedClient } from './lease/fenced-client.ts';
import type { Lease, LeaseTimings } from './lease/lease.ts';
import { defaultLeaseName } from './lease/record.ts';
import { startLease } from './lease/lease.ts';
import type { Log } from './log.ts';
import { followOwnership } from './ownership.ts';
import type { Rivals } from './rivals.ts';
import { startGatewayClassStatus } from './status/gateway-class.ts';
import { startHealthCheckStatus } from './status/health-check.ts';
import { startLabelledStatus } from './status/labelled.ts';
import { startTrafficStatus } from './status/traffic.ts';
import { startStatusWriter } from './status/writer.ts';
import { isDefault } from './translate/revision.ts';

export interface WritingOptions {
  readonly config: ControllerConfig;
  readonly client: KubeClient;
  /** Whether this controller may be the one that writes. */
  readonly mayWrite: () => boolean;
  readonly timings?: LeaseTimings;
  readonly nowMs: () => number;
  readonly log: Log;
}

/** The right to write, which one of several controllers has. */
export interface Writing {
  readonly lease: Lease;
  readonly gate: Gate;
  /** Writes while this controller has the right, and reads at any time. */
  readonly client: KubeClient;
}

export function startWriting(options: WritingOptions): Writing {
  const { config, client, nowMs, log, timings } = options;
  const lease = startLease({
    client,
    namespace: config.rootNamespace,
    name: leaseName(config),
    identity: `${config.podName}_${randomUUID()}`,
    mayHold: options.mayWrite,
    nowMs,
    log,
    ...(timings === undefined ? {} : { timings }),
  });
  return {
    lease,
    gate: {
      isOpen: () => lease.term() !== undefined,
      onOpen: (listener) => lease.onTerm(listener),
    },
    client: fencedClient(client, lease),
  };
}

/** One for each revision, as each writes what is its own; all that write what bears no label share one. */
export function leaseName(facts: Pick<ControllerConfig, 'revision' | 'defaultRevision'>): string {
  return isDefault(facts) ? defaultLeaseName : `${defaultLeaseName}-${facts.revision}`;
}

/** Everything that tells owners of resources what became of them, and what deploys for them. */
export function startWriters(
  { client, gate, lease }: Writing,
  options: Pick<WritingOptions, 'config' | 'nowMs' | 'log'> & {
    readonly collections: MeshCollections;
    readonly scope: Scope;
    readonly rivals: Rivals;
  },
): { close(): Promise<void> } {
  const { config, collections, scope, rivals, nowMs, log } = options;
  const ownership = followOwnership(collections.sources.namespaces, config);
  const common = { client, gate, ownership, collections, nowMs, log };
  const writers = [
    startStatusWriter(common),
    startDeployer({
      ...common,
      settings: deploySettings(config),
      token: () => lease.term()?.token,
      lease: leaseName(config),
      revision: config,
    }),
    startTrafficStatus(common),
    startGatewayClassStatus({ ...common, sources: collections.sources, rivals }),
    startLabelledStatus({ ...common, scope }),
    startHealthCheckStatus(common),
  ];
  return {
    close: async () => {
      await Promise.all(writers.map((one) => one.close()));
    },
  };
}

function deploySettings(config: ControllerConfig): DeploySettings {
  return {
    image: config.waypointImage,
    imagePullPolicy: config.waypointImagePullPolicy,
    imagePullSecrets: config.waypointImagePullSecrets,
    resources: config.waypointResources,
    controller: config.advertisedAddress,
    clusterId: config.clusterId,
    trustDomain: config.trustDomain,
    jwksAllowedCidrs: config.jwksAllowedCidrs,
  };
}
