import type {
  CertificateRefused,
  CertificateRequest,
  CertificateResponse,
  Result,
} from '@ambit/api';
import { err, ok, parseSpiffeIdentity } from '@ambit/api';

import type { Log } from '../log.ts';
import type { Authenticate } from './authenticate.ts';
import type { Authority } from './authority.ts';
import type { NodeAuthorization, NodeProxy, PodView } from './node-authorizer.ts';
import { authorizeIdentity, authorizeNodeProxy } from './node-authorizer.ts';
import type { WorkQueue } from './queue.ts';
import { createWorkQueue } from './queue.ts';
import { readRequest } from './request.ts';
import { signCertificate } from './sign.ts';

export interface CertificateServerOptions {
  readonly authority: () => Authority | undefined;
  readonly authenticate: Authenticate;
  readonly authorization: NodeAuthorization;
  readonly pods: PodView;
  readonly ttlMs: number;
  readonly nowMs: () => number;
  readonly log: Log;
  readonly onAnswer?: (outcome: 'issued' | CertificateRefused['code']) => void;
  readonly concurrency?: number;
}

/** One proxy's connection, as far as its certificates are concerned. */
export interface CertificateClient {
  /** Never throws and always answers. */
  request(frame: CertificateRequest): Promise<CertificateResponse | CertificateRefused>;
}

export interface CertificateServer {
  connect(token: string): CertificateClient;
}

const defaultConcurrency = 4;
/** About ten seconds of signing: whoever comes later is told to come again. */
const maxWaiting = 2000;
/** A node holds some hundred pods; more than this at once from one proxy is no honest need. */
const maxPendingPerClient = 256;

interface Refused {
  readonly code: CertificateRefused['code'];
  /** Told to the caller. */
  readonly message: string;
  /** Told to the log only. */
  readonly reason: string;
}

/** Answers certificate requests: who asks is checked anew for each, before and after the work is done. */
export function createCertificateServer(options: CertificateServerOptions): CertificateServer {
  const queue = createWorkQueue(options.concurrency ?? defaultConcurrency, maxWaiting);
  return {
    connect: (token) => {
      let pending = 0;
      const served = new Set<string>();
      return {
        request: async (frame) => {
          if (pending >= maxPendingPerClient) return refusal(frame, busy, options);
          pending += 1;
          try {
            const answer = await enqueue(queue, served.has(frame.identity), () =>
              issue(token, frame, options),
            );
            if (!answer.ok) return refusal(frame, answer.error, options);
            // A second request for an identity is a renewal, which has time.
            served.add(frame.identity);
            options.onAnswer?.('issued');
            return answer.value;
          } catch (error) {
            options.log.error({ err: error, identity: frame.identity }, 'signing failed');
            return refusal(frame, { ...busy, reason: 'signing failed' }, options);
          } finally {
            pending -= 1;
          }
        },
      };
    },
  };
}

const busy: Refused = {
  code: 'unavailable',
  message: 'the authority is busy; try again later',
  reason: 'too many requests wait',
};

async function enqueue(
  queue: WorkQueue,
  renewal: boolean,
  task: () => Promise<Result<CertificateResponse, Refused>>,
): Promise<Result<CertificateResponse, Refused>> {
  return (await queue.add(renewal ? 'background' : 'urgent', task)) ?? err(busy);
}

function refusal(
  frame: CertificateRequest,
  refused: Refused,
  { log, onAnswer }: CertificateServerOptions,
): CertificateRefused {
  log.warn(
    { 'requested.identity': frame.identity, code: refused.code, reason: refused.reason },
    'certificate refused',
  );
  onAnswer?.(refused.code);
  return {
    kind: 'certificate-refused',
    id: frame.id,
    code: refused.code,
    message: refused.message,
  };
}

async function issue(
  token: string,
  frame: CertificateRequest,
  options: CertificateServerOptions,
): Promise<Result<CertificateResponse, Refused>> {
  const identity = parseSpiffeIdentity(frame.identity);
  if (!identity.ok) return bad(identity.error.message);
  const authority = options.authority();
  if (authority === undefined || authority.notAfter.getTime() <= options.nowMs()) {
    return err({
      code: 'unavailable',
      message: 'the authority cannot sign now',
      reason: 'no authority is loaded, or it has expired',
    });
  }
  const proxy = await authenticated(token, options);
  if (!proxy.ok) return proxy;
  const permitted = authorizeIdentity(
    proxy.value,
    identity.value,
    options.pods,
    options.authorization,
  );
  if (!permitted.ok) return unauthenticated(permitted.error);
  const key = await readRequest(frame.csr);
  if (!key.ok) return bad(key.error.message);
  const subject = { kind: 'identity', identity: permitted.value } as const;
  const time = { nowMs: options.nowMs(), ttlMs: options.ttlMs };
  const signed = await signCertificate(authority, key.value, subject, time);
  // The pods may have gone while we worked; what was signed for them then never leaves.
  const still = authorizeNodeProxy(proxy.value.caller, options.pods, options.authorization);
  if (!still.ok) return unauthenticated(still.error);
  const again = authorizeIdentity(still.value, identity.value, options.pods, options.authorization);
  if (!again.ok) return unauthenticated(again.error);
  return ok({ kind: 'certificate', id: frame.id, chain: signed.chain, roots: signed.roots });
}

/** Whose connection it is, by its token and by what is known of pods now. */
export async function authenticated(
  token: string,
  options: Pick<CertificateServerOptions, 'authenticate' | 'authorization' | 'pods'>,
): Promise<Result<NodeProxy, Refused>> {
  const caller = await options.authenticate(token);
  if (!caller.ok) {
    const { code, reason } = caller.error;
    return code === 'unavailable'
      ? err({ code, message: 'tokens cannot be checked now', reason })
      : unauthenticated(reason);
  }
  const proxy = authorizeNodeProxy(caller.value, options.pods, options.authorization);
  return proxy.ok ? proxy : unauthenticated(proxy.error);
}

function unauthenticated(reason: string): Result<never, Refused> {
  return err({ code: 'unauthenticated', message: 'not authorized', reason });
}

function bad(message: string): Result<never, Refused> {
  return err({ code: 'bad-request', message, reason: message });
}
