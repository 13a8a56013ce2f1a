import type { ServingKeeper } from '../ca/serving.ts';
import type { ControllerConfig } from '../config.ts';
import type { MeshCollections } from '../collections/mesh.ts';
import type { KubeClient } from '../kube/client.ts';
import type { Gate } from '../kube/reconciler.ts';
import type { ReflectorTimings } from '../kube/reflector.ts';
import type { Scope } from '../kube/scope.ts';
import type { Log } from '../log.ts';
import { followOwnership } from '../ownership.ts';
import { judgeRequest } from './admission.ts';
import type { Registration } from './registration.ts';
import { startRegistration } from './registration.ts';
import type { Webhook, WebhookOutcome } from './server.ts';
import { startWebhook } from './server.ts';

export interface ValidationOptions {
  readonly config: ControllerConfig;
  readonly client: KubeClient;
  readonly collections: MeshCollections;
  readonly scope: Scope;
  readonly serving: ServingKeeper;
  readonly roots: () => readonly string[] | undefined;
  /** Open while this controller is the one that writes, which none is before everything is known. */
  readonly gate: Gate;
  readonly timings?: Partial<ReflectorTimings>;
  readonly onAnswer: (outcome: WebhookOutcome) => void;
  readonly log: Log;
}

export interface Validation extends Pick<Registration, 'changed'> {
  readonly address: Webhook['address'];
  close(): Promise<void>;
}

/** Serves the validating webhook and, once it is served, registers it with the API server. */
export async function startValidation(options: ValidationOptions): Promise<Validation> {
  const { config, client, gate, collections, scope, serving, roots, log } = options;
  const ownership = followOwnership(collections.sources.namespaces, config);
  const webhook = await startWebhook({
    host: config.host,
    port: config.webhookPort,
    certificate: serving.current(),
    judge: (request) => {
      collections.flush();
      return judgeRequest(request, { collections, cluster: config, scope, ownership });
    },
    onAnswer: options.onAnswer,
    log,
  });
  serving.follow((certificate) => webhook.useCertificate(certificate));
  const timings = options.timings === undefined ? {} : { timings: options.timings };
  const registration = startRegistration({
    client,
    gate,
    revision: config,
    roots,
    ...timings,
    log,
  });
  return {
    address: webhook.address,
    changed: () => registration.changed(),
    close: async () => {
      await registration.close();
      await webhook.close();
    },
  };
}
