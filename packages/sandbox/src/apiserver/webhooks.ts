import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import * as https from 'node:https';
import { connect as connectTls } from 'node:tls';
import type { ApiContext, DialService, ResourceCall } from './context.ts';
import { isDryRun } from './call.ts';
import { ApiError, badRequest } from './errors.ts';
import type { JsonObject } from './object.ts';
import { listAt, numberAt, objectAt, stringAt, valueAt } from './object.ts';
import type { ValidatingWebhook, Write } from './webhook-rules.ts';
import { matchingWebhooks } from './webhook-rules.ts';

const configurations = {
  group: 'admissionregistration.k8s.io',
  resource: 'validatingwebhookconfigurations',
};
const namespaces = { group: '', resource: 'namespaces' };
const maxAnswerBytes = 1024 * 1024;

/** The validating webhooks that are to look at a write. Nothing is asked about their own configurations. */
export function webhooksFor(
  { store }: ApiContext,
  call: ResourceCall,
  write: Omit<Write, 'namespaceLabels'>,
): readonly ValidatingWebhook[] {
  if (call.route.key.group === configurations.group) return [];
  const { items } = store.list(configurations);
  if (items.length === 0) return [];
  const { namespace } = write.after.metadata;
  const found = namespace === undefined ? undefined : store.get(namespaces, undefined, namespace);
  const namespaceLabels = namespace === undefined ? undefined : (found?.metadata.labels ?? {});
  return matchingWebhooks(items, call, { ...write, namespaceLabels });
}

/**
 * Asks each of the webhooks at once.
 * @returns warnings for the client
 * @throws ApiError what the first of them refuses, or InternalError where one that fails closed cannot be asked
 */
export async function askWebhooks(
  context: ApiContext,
  call: ResourceCall,
  webhooks: readonly ValidatingWebhook[],
  write: Omit<Write, 'namespaceLabels'>,
): Promise<readonly string[]> {
  const dryRun = isDryRun(call);
  const told = await Promise.all(
    webhooks.map(async (webhook) => {
      if (dryRun && !webhook.forDryRun)
        throw badRequest(`admission webhook "${webhook.name}" does not support dry run`);
      let answer: JsonObject;
      try {
        answer = await ask(context, webhook, reviewOf(call, write, dryRun));
      } catch (error) {
        if (!webhook.failsClosed) return [];
        const why = `failed calling webhook "${webhook.name}": ${(error as Error).message}`;
        throw new ApiError(500, 'InternalError', `Internal error occurred: ${why}`);
      }
      if (answer['allowed'] !== true) throw refusal(webhook.name, objectAt(answer, 'status'));
      return listAt(answer, 'warnings').map(String);
    }),
  );
  return told.flat();
}

function refusal(webhook: string, status: JsonObject): ApiError {
  const code = numberAt(status, 'code') ?? 400;
  const message = stringAt(status, 'message') ?? '';
  const denied = `admission webhook "${webhook}" denied the request`;
  const details = valueAt(status, 'details');
  return new ApiError(
    code < 400 ? 400 : code,
    stringAt(status, 'reason') ?? 'BadRequest',
    message === '' ? `${denied} without explanation` : `${denied}: ${message}`,
    ...(details === undefined ? [] : [details as JsonObject]),
  );
}

function reviewOf(call: ResourceCall, write: Omit<Write, 'namespaceLabels'>, dryRun: boolean) {
  const { route, definition, user } = call;
  const { group, resource } = route.key;
  const kind = { group, version: route.version, kind: definition.kind };
  const of = { group, version: route.version, resource };
  const { name, namespace } = write.after.metadata;
  return {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid: randomUUID(),
      kind,
      resource: of,
      requestKind: kind,
      requestResource: of,
      ...(route.subresource === undefined ? {} : { subResource: route.subresource }),
      name,
      ...(namespace === undefined ? {} : { namespace }),
      operation: write.operation,
      userInfo: { username: user.username, groups: user.groups },
      object: write.after,
      oldObject: write.before ?? null,
      dryRun,
      options: null,
    },
  };
}

async function ask(
  { dialService }: ApiContext,
  { clientConfig, timeoutMs }: ValidatingWebhook,
  review: ReturnType<typeof reviewOf>,
): Promise<JsonObject> {
  const signal = AbortSignal.timeout(timeoutMs);
  const caBundle = stringAt(clientConfig, 'caBundle');
  const ca = caBundle === undefined ? {} : { ca: Buffer.from(caBundle, 'base64').toString('utf8') };
  const service = valueAt(clientConfig, 'service');
  const post = (url: string, options: https.RequestOptions): Promise<string> =>
    send(url, { ...options, ...ca, signal }, JSON.stringify(review));
  const text = await (service === undefined
    ? post(stringAt(clientConfig, 'url') ?? '', {})
    : viaService(service, post, dialService));
  const parsed: unknown = JSON.parse(text);
  if (stringAt(parsed, 'response', 'uid') !== review.request.uid)
    throw new Error('the answer is no AdmissionReview of the one that was asked');
  return objectAt(parsed, 'response');
}

async function viaService(
  service: unknown,
  post: (url: string, options: https.RequestOptions) => Promise<string>,
  dialService: DialService | undefined,
): Promise<string> {
  const namespace = stringAt(service, 'namespace') ?? '';
  const name = stringAt(service, 'name') ?? '';
  const port = numberAt(service, 'port') ?? 443;
  const host = `${name}.${namespace}.svc`;
  const url = `https://${host}:${port}${stringAt(service, 'path') ?? '/'}`;
  if (dialService === undefined) throw new Error(`Post "${url}": no Service can be reached`);
  const socket = await dialService(namespace, name, port);
  try {
    return await post(url, {
      createConnection: (options) =>
        connectTls({ ...(options as object), socket, servername: host }),
    });
  } finally {
    socket.destroy();
  }
}

function send(url: string, options: https.RequestOptions, body: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    };
    const fail = (error: Error): void => reject(new Error(`Post "${url}": ${error.message}`));
    const request = https.request(url, { ...options, method: 'POST', headers }, (answer) => {
      readAnswer(answer).then(resolve, fail);
    });
    request.on('error', fail);
    request.end(body);
  });
}

async function readAnswer(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxAnswerBytes) throw new Error(`more than ${maxAnswerBytes} bytes`);
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString('utf8');
  if (answer.statusCode !== 200)
    throw new Error(`HTTP ${answer.statusCode ?? 0} ${text.slice(0, 200)}`);
  return text;
}
