import type { KubeClient } from '../kube/client.ts';
import { field, list, text } from '../kube/decode/fields.ts';
import { kubeStatus } from '../kube/error.ts';
import type { Gate } from '../kube/reconciler.ts';
import { createReconciler } from '../kube/reconciler.ts';
import type { ReflectorTimings } from '../kube/reflector.ts';
import { startReflector, wholeList } from '../kube/reflector.ts';
import type { Log } from '../log.ts';
import type { RevisionFacts } from '../translate/revision.ts';
import { isOurs, revisionLabel } from '../translate/revision.ts';

/** The ValidatingWebhookConfiguration of the installation, which this controller completes and never makes. */
export const webhookConfiguration = 'ambit-validator';
/** Of its webhooks the one whose outage refuses what it would have looked at; the others let it in. */
export const closedWebhook = 'validation.ambit.dev';

export interface RegistrationOptions {
  readonly client: KubeClient;
  /** PEM by which the API server knows the webhook; undefined while there is no authority. */
  readonly roots: () => readonly string[] | undefined;
  /** Open while this controller is the one that writes. */
  readonly gate: Gate;
  /** Whose registration is written: that which bears its label. */
  readonly revision: RevisionFacts;
  readonly timings?: Partial<ReflectorTimings>;
  readonly log: Log;
}

export interface Registration {
  /** What it depends on is other than it was. */
  changed(): void;
  close(): Promise<void>;
}

const collection = '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations';
const fieldManager = 'ambit-webhook';

/**
 * Once the webhook is served: tells the API server whom to trust, and to refuse what cannot be looked at. Before that the
 * installation lets everything in, so that nothing waits for a controller that is not there yet. Only these two fields are
 * written, again whenever somebody changes them.
 */
export function startRegistration(options: RegistrationOptions): Registration {
  const { client, gate, roots, log } = options;
  let found: unknown;
  const reconciler = createReconciler({
    gate,
    run: async () => {
      const pem = roots()?.join('');
      if (found === undefined || pem === undefined) return;
      const label = text(field(found, 'metadata', 'labels', revisionLabel));
      if (!isOurs(label, options.revision)) return;
      const webhooks = completed(found, Buffer.from(pem).toString('base64'));
      if (webhooks === undefined) return;
      await apply(client, webhooks);
      log.info({ object: `ValidatingWebhookConfiguration ${webhookConfiguration}` }, 'registered');
    },
    onError: (_key, error) => {
      const object = `ValidatingWebhookConfiguration ${webhookConfiguration}`;
      const denied = kubeStatus(error) === 403;
      const fix = denied ? 'the right to patch it is missing' : 'it is tried again';
      log.warn({ err: error, object }, `webhook not registered; ${fix}`);
    },
  });
  const changed = (): void => reconciler.enqueue(webhookConfiguration);
  const take = (object: unknown): void => {
    if (object !== undefined && field(object, 'metadata', 'name') !== webhookConfiguration) return;
    found = object;
    changed();
  };
  const reflector = startReflector({
    client,
    path: collection,
    fieldSelector: `metadata.name=${webhookConfiguration}`,
    ...(options.timings === undefined ? {} : { timings: options.timings }),
    sink: {
      list: wholeList((objects) => {
        const own = objects.find((one) => field(one, 'metadata', 'name') === webhookConfiguration);
        if (own === undefined)
          log.info({ webhookConfiguration }, 'not there; nothing is validated');
        take(own);
      }),
      upsert: take,
      remove: (object) => {
        if (field(object, 'metadata', 'name') === webhookConfiguration) take(undefined);
      },
    },
    onFailure: (error, attempt) =>
      log.debug({ err: error, attempt }, 'watch of the webhook configuration failed'),
  });
  return {
    changed,
    close: async () => {
      await reflector.close();
      await reconciler.close();
    },
  };
}

interface CompletedWebhook {
  readonly name: string;
  readonly clientConfig: { readonly caBundle: string };
  readonly failurePolicy?: 'Fail';
}

/** Pure: what is to be applied; undefined when it stands there. */
export function completed(
  configuration: unknown,
  caBundle: string,
): readonly CompletedWebhook[] | undefined {
  const webhooks = list(field(configuration, 'webhooks'));
  const stands = webhooks.every(
    (one) =>
      text(field(one, 'clientConfig', 'caBundle')) === caBundle &&
      (field(one, 'name') !== closedWebhook || field(one, 'failurePolicy') === 'Fail'),
  );
  if (stands) return undefined;
  return webhooks.map((one) => {
    const name = text(field(one, 'name'));
    return {
      name,
      clientConfig: { caBundle },
      ...(name === closedWebhook ? { failurePolicy: 'Fail' } : {}),
    };
  });
}

async function apply(client: KubeClient, webhooks: readonly CompletedWebhook[]): Promise<void> {
  await client.request({
    method: 'PATCH',
    path: `${collection}/${webhookConfiguration}`,
    query: new Map([
      ['fieldManager', fieldManager],
      ['force', 'true'],
    ]),
    contentType: 'application/apply-patch+yaml',
    body: {
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind: 'ValidatingWebhookConfiguration',
      metadata: { name: webhookConfiguration },
      webhooks,
    },
  });
}
