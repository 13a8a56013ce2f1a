import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';

import type { Result } from '@ambit/api';
import { err } from '@ambit/api';
import { listening, makeRoom } from '@ambit/core';

import { maxValues } from '../json-values.ts';
import type { Log } from '../log.ts';
import type { ServingCertificate } from '../push/listener.ts';
import type { AdmissionRequest, Verdict } from './admission.ts';
import { answerOf, readReview } from './admission.ts';
import type { BodyReader, BodyRefused } from './body.ts';
import { createBodyReader, maxBodyBytes } from './body.ts';

export interface WebhookOptions {
  /** Address to listen on; every address of the host when absent. */
  readonly host: string | undefined;
  readonly port: number;
  readonly certificate: ServingCertificate;
  readonly judge: (request: AdmissionRequest) => Verdict;
  readonly onAnswer?: (outcome: WebhookOutcome) => void;
  /** Of bodies that are being read. */
  readonly maxHeldBytes?: number;
  readonly log: Log;
}

export type WebhookOutcome = 'admitted' | 'refused' | 'bad-request' | 'failed';

export interface Webhook {
  readonly address: AddressInfo;
  useCertificate(certificate: ServingCertificate): void;
  close(): Promise<void>;
}

/** Path at which the API server asks. */
export const validatePath = '/validate';

const timeoutMs = 5_000;
const maxConnections = 256;

/** Answers AdmissionReviews over TLS. Whoever can reach it may ask: it tells no more than the status of an object. */
export async function startWebhook(options: WebhookOptions): Promise<Webhook> {
  const { log } = options;
  const server = createServer({
    ...contextOf(options.certificate),
    handshakeTimeout: timeoutMs,
    headersTimeout: timeoutMs,
    requestTimeout: timeoutMs,
    connectionsCheckingInterval: 1000,
  });
  const room = makeRoom(server, maxConnections);
  const bodies = createBodyReader(options.maxHeldBytes);
  server.on('tlsClientError', (error) => {
    log.debug({ err: error }, 'TLS handshake on the webhook port failed');
  });
  server.on('request', (request, response) => {
    response.on('error', () => response.destroy());
    request.on('error', () => request.destroy());
    const answered = serve(request, response, { ...options, bodies });
    // The API server keeps its connections, and strangers do not take them from it.
    answered.then(
      (isReview) => isReview && room.renew(request.socket),
      () => undefined,
    );
    answered.catch((error: unknown) => {
      if (request.destroyed && !request.complete) return;
      log.error({ err: error }, 'a review failed');
      options.onAnswer?.('failed');
      if (!response.headersSent) send(response, 500, 'the review failed\n');
      else response.destroy();
    });
  });
  const address = await listening(server, options);
  server.on('error', (error) => log.error({ err: error }, 'webhook port failed'));
  return {
    address,
    useCertificate: (certificate) => server.setSecureContext(contextOf(certificate)),
    close: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

/** True for a review that was answered. */
async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  options: WebhookOptions & { readonly bodies: BodyReader },
): Promise<boolean> {
  const read = await readRequest(request, options.bodies);
  if (!read.ok) {
    options.onAnswer?.('bad-request');
    // What is still to come is not read: the connection cannot be used again.
    response.setHeader('connection', 'close');
    send(response, read.error.status, `${read.error.why}\n`);
    request.resume();
    return false;
  }
  const verdict = options.judge(read.value);
  const [error] = verdict.errors;
  options.onAnswer?.(error === undefined ? 'admitted' : 'refused');
  if (error !== undefined) options.log.info({ ...error }, 'object refused by validation');
  response.setHeader('content-type', 'application/json');
  send(response, 200, JSON.stringify(answerOf(read.value.uid, verdict)));
  return true;
}

interface BadRequest {
  readonly status: number;
  readonly why: string;
}

const refusals: Readonly<Record<BodyRefused, string>> = {
  'too-long': `more than ${maxBodyBytes} bytes`,
  'too-many-values': `more than ${maxValues} values`,
};

async function readRequest(
  request: IncomingMessage,
  bodies: BodyReader,
): Promise<Result<AdmissionRequest, BadRequest>> {
  const bad = (status: number, why: string) => err({ status, why });
  if ((request.url ?? '/').split('?')[0] !== validatePath) return bad(404, `only ${validatePath}`);
  if (request.method !== 'POST') return bad(405, 'POST only');
  const body = await bodies.read(request);
  if (typeof body === 'string') return bad(413, refusals[body]);
  let parsed: unknown;
  try {
    parsed = JSON.parse(body.toString('utf8'));
  } catch {
    return bad(400, 'the body is no JSON');
  }
  const review = readReview(parsed);
  return review.ok ? review : bad(400, review.error);
}

function send(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, { 'x-content-type-options': 'nosniff' }).end(body);
}

function contextOf({ keyPem, chainPem }: ServingCertificate) {
  return { key: keyPem, cert: chainPem, minVersion: 'TLSv1.2' as const };
}
