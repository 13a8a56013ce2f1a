import { createHash } from 'node:crypto';

import type { Result } from '@ambit/api';
import { controlAudience, err, ok } from '@ambit/api';

import type { KubeClient } from '../kube/client.ts';
import { field, text, texts } from '../kube/decode/fields.ts';
import { kubeStatus } from '../kube/error.ts';
import type { Caller } from './node-authorizer.ts';

export interface AuthenticationFailed {
  /** `unavailable`: the API could not be asked, so nobody is let in. */
  readonly code: 'unauthenticated' | 'unavailable';
  /** For the log only. */
  readonly reason: string;
}

export type Authenticate = (token: string) => Promise<Result<Caller, AuthenticationFailed>>;

export interface AuthenticatorOptions {
  readonly client: KubeClient;
  readonly nowMs: () => number;
  /** How long a good answer may stand in for a new one; never past the token's own end. */
  readonly cacheMs?: number;
}

/** Longer than any service-account token; the API server must not be made to look at more. */
const maxTokenBytes = 16 * 1024;
const defaultCacheMs = 5_000;
const maxCached = 2048;
const reviewTimeoutMs = 10_000;
const tokenForm = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;
const accountPrefix = 'system:serviceaccount:';

/** Asks the API server whose token it is. Only good answers are remembered, and only for seconds. */
export function createAuthenticator(options: AuthenticatorOptions): Authenticate {
  const cacheMs = options.cacheMs ?? defaultCacheMs;
  const cached = new Map<string, { readonly caller: Caller; readonly untilMs: number }>();
  const asked = new Map<string, Promise<Result<Caller, AuthenticationFailed>>>();

  const review = async (token: string, id: string) => {
    const result = await reviewToken(options.client, token);
    if (!result.ok) return result;
    const now = options.nowMs();
    const endsMs = tokenEndMs(token);
    if (endsMs <= now)
      return err({ code: 'unauthenticated', reason: 'the token has ended' } as const);
    if (cached.size >= maxCached) cached.clear();
    cached.set(id, { caller: result.value, untilMs: Math.min(now + cacheMs, endsMs) });
    return result;
  };

  return (token) => {
    if (Buffer.byteLength(token) > maxTokenBytes || !tokenForm.test(token)) {
      return Promise.resolve(err({ code: 'unauthenticated', reason: 'not a token' } as const));
    }
    const id = createHash('sha256').update(token).digest('base64');
    const known = cached.get(id);
    if (known !== undefined && known.untilMs > options.nowMs())
      return Promise.resolve(ok(known.caller));
    cached.delete(id);
    const pending = asked.get(id);
    if (pending !== undefined) return pending;
    const started = review(token, id).finally(() => asked.delete(id));
    asked.set(id, started);
    return started;
  };
}

async function reviewToken(
  client: KubeClient,
  token: string,
): Promise<Result<Caller, AuthenticationFailed>> {
  let answer: unknown;
  try {
    answer = await client.request({
      method: 'POST',
      path: '/apis/authentication.k8s.io/v1/tokenreviews',
      timeoutMs: reviewTimeoutMs,
      body: {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenReview',
        spec: { token, audiences: [controlAudience] },
      },
    });
  } catch (error) {
    return err({ code: 'unavailable', reason: `TokenReview failed: HTTP ${kubeStatus(error)}` });
  }
  const status = field(answer, 'status');
  if (field(status, 'authenticated') !== true) {
    return refused(`not authenticated ${text(field(status, 'error')).slice(0, 200)}`.trimEnd());
  }
  // An API server that knows no audiences leaves them out: its yes says nothing about ours.
  if (!texts(field(status, 'audiences')).includes(controlAudience)) {
    return refused(`not for the audience ${controlAudience}`);
  }
  const user = field(status, 'user');
  const username = text(field(user, 'username'));
  const parts = username.startsWith(accountPrefix)
    ? username.slice(accountPrefix.length).split(':')
    : [];
  const [namespace = '', serviceAccount = ''] = parts;
  if (parts.length !== 2 || namespace === '' || serviceAccount === '') {
    return refused('not a service account');
  }
  const extra = field(user, 'extra');
  return ok({
    namespace,
    serviceAccount,
    podName: texts(field(extra, 'authentication.kubernetes.io/pod-name'))[0] ?? '',
    podUid: texts(field(extra, 'authentication.kubernetes.io/pod-uid'))[0] ?? '',
  });
}

/** `exp` of a token that the API server has verified, in milliseconds; Infinity for one without. */
export function tokenEndMs(token: string): number {
  try {
    const claims: unknown = JSON.parse(
      Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'),
    );
    const end = field(claims, 'exp');
    return typeof end === 'number' && Number.isFinite(end) ? end * 1000 : Infinity;
  } catch {
    return Infinity;
  }
}

function refused(reason: string): Result<never, AuthenticationFailed> {
  return err({ code: 'unauthenticated', reason });
}
