import type { KeyObject } from 'node:crypto';
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  randomUUID,
  sign,
  timingSafeEqual,
  verify,
} from 'node:crypto';
import { badRequest, invalid, invalidValue, notFound } from './errors.ts';
import type { JsonObject, KubeObject } from './object.ts';
import { isObject, numberAt, objectAt, stringAt, stringsAt } from './object.ts';
import type { ResourceStore } from './resource-store.ts';

/** Who a request comes from. */
export interface User {
  readonly username: string;
  readonly uid?: string;
  readonly groups: readonly string[];
  readonly extra?: Readonly<Record<string, readonly string[]>>;
}

export interface TokenRequest {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly audiences?: readonly string[];
  /** From 600 to 86400; an hour where absent. */
  readonly expirationSeconds?: number;
  readonly boundPod?: { readonly name: string; readonly uid?: string };
}

export interface MintedToken {
  readonly token: string;
  readonly expiresAtMs: number;
}

export type TokenCheck =
  | { readonly ok: true; readonly user: User; readonly audiences: readonly string[] }
  | { readonly ok: false; readonly why: string };

/** Service-account tokens and the administrator's: mints and verifies them in process. */
export interface Tokens {
  readonly issuer: string;
  readonly adminToken: string;
  mint(request: TokenRequest): MintedToken;
  /** Checks a bearer token for any of these audiences; the API's own where none is given. */
  verify(token: string, audiences?: readonly string[]): TokenCheck;
  /** The public half, as a JSON Web Key Set. */
  jwks(): JsonObject;
  /** PKCS#8 PEM of the signing key, to keep tokens valid over a restart. */
  privateKeyPem(): string;
}

export interface TokenOptions {
  readonly store: ResourceStore;
  readonly issuer: string;
  readonly adminToken: string;
  readonly signingKey?: string | undefined;
  readonly now: () => number;
}

const minimumSeconds = 600;
const maximumSeconds = 86_400;
const maxTokenLength = 16_384;
const maxSkewMs = 60_000;

export const administrator: User = {
  username: 'kubernetes-admin',
  groups: ['system:masters', 'system:authenticated'],
};

export function createTokens(options: TokenOptions): Tokens {
  const { store, issuer, now } = options;
  const privateKey = signingKey(options.signingKey);
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' });
  const publicKey = createPublicKey(privateKey);
  const jwk = publicKey.export({ format: 'jwk' });
  const keyId = createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest('base64url');
  return {
    issuer,
    adminToken: options.adminToken,
    mint(request) {
      const claims = claimsFor(store, request, issuer, now());
      return {
        token: signJwt(claims, keyId, privateKey),
        expiresAtMs: Number(claims['exp']) * 1000,
      };
    },
    verify(token, audiences = [issuer]) {
      if (sameSecret(token, options.adminToken)) {
        return audiences.includes(issuer)
          ? { ok: true, user: administrator, audiences: [issuer] }
          : { ok: false, why: `the administrator's token is only for ${issuer}` };
      }
      const claims = readJwt(token, keyId, publicKey);
      if (claims === undefined) return { ok: false, why: 'invalid bearer token' };
      return checkClaims(store, claims, { issuer, audiences, nowMs: now() });
    },
    jwks: () => ({ keys: [{ ...jwk, use: 'sig', alg: 'RS256', kid: keyId }] }),
    privateKeyPem: () => pem,
  };
}

function signingKey(pem: string | undefined): KeyObject {
  return pem === undefined
    ? generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
    : createPrivateKey(pem);
}

function sameSecret(a: string, b: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}

function claimsFor(
  store: ResourceStore,
  request: TokenRequest,
  issuer: string,
  nowMs: number,
): JsonObject {
  const { namespace, serviceAccount, audiences = [] } = request;
  const account = store.get(serviceAccounts, namespace, serviceAccount);
  if (account === undefined) throw notFound(serviceAccounts, serviceAccount);
  const seconds = request.expirationSeconds ?? 3600;
  if (!Number.isInteger(seconds) || seconds < minimumSeconds || seconds > 2 ** 32) {
    throw invalid({ group: 'authentication.k8s.io', kind: 'TokenRequest' }, '', [
      invalidValue(
        'spec.expirationSeconds',
        seconds,
        'may not specify a duration less than 10 minutes',
      ),
    ]);
  }
  const nowSeconds = Math.floor(nowMs / 1000);
  return {
    aud: audiences.length === 0 ? [issuer] : [...audiences],
    exp: nowSeconds + Math.min(seconds, maximumSeconds),
    iat: nowSeconds,
    nbf: nowSeconds,
    iss: issuer,
    jti: randomUUID(),
    sub: `system:serviceaccount:${namespace}:${serviceAccount}`,
    'kubernetes.io': {
      namespace,
      serviceaccount: { name: serviceAccount, uid: account.metadata.uid },
      ...(request.boundPod === undefined ? {} : boundPod(store, request, request.boundPod)),
    },
  };
}

function boundPod(
  store: ResourceStore,
  request: TokenRequest,
  bound: { name: string; uid?: string },
): JsonObject {
  const pod = store.get(pods, request.namespace, bound.name);
  if (pod === undefined) throw notFound(pods, bound.name);
  if (bound.uid !== undefined && bound.uid !== pod.metadata.uid) {
    throw badRequest(
      `the pod ${bound.name} has UID ${pod.metadata.uid ?? ''}, not ${bound.uid} as boundObjectRef says`,
    );
  }
  const account = stringAt(pod, 'spec', 'serviceAccountName') ?? 'default';
  if (account !== request.serviceAccount) {
    throw badRequest(
      `cannot bind token for serviceaccount "${request.serviceAccount}" to pod running as "${account}"`,
    );
  }
  const nodeName = stringAt(pod, 'spec', 'nodeName');
  const node = nodeName === undefined ? undefined : store.get(nodes, undefined, nodeName);
  return {
    pod: { name: bound.name, uid: pod.metadata.uid },
    ...(nodeName === undefined
      ? {}
      : { node: { name: nodeName, ...(node === undefined ? {} : { uid: node.metadata.uid }) } }),
  };
}

const serviceAccounts = { group: '', resource: 'serviceaccounts' };
const pods = { group: '', resource: 'pods' };
const nodes = { group: '', resource: 'nodes' };

function checkClaims(
  store: ResourceStore,
  claims: JsonObject,
  expected: {
    readonly issuer: string;
    readonly audiences: readonly string[];
    readonly nowMs: number;
  },
): TokenCheck {
  const refuse = (why: string): TokenCheck => ({ ok: false, why });
  if (claims['iss'] !== expected.issuer) return refuse('the token is of another issuer');
  const expires = (numberAt(claims, 'exp') ?? 0) * 1000;
  if (expires <= expected.nowMs) return refuse('the token has expired');
  if ((numberAt(claims, 'nbf') ?? 0) * 1000 > expected.nowMs + maxSkewMs)
    return refuse('the token is not valid yet');
  const audiences = stringsAt(claims, 'aud').filter((audience) =>
    expected.audiences.includes(audience),
  );
  if (audiences.length === 0) {
    return refuse(
      `token audiences ${JSON.stringify(claims['aud'])} is invalid for the target audiences ${JSON.stringify(expected.audiences)}`,
    );
  }
  const bound = objectAt(claims, 'kubernetes.io');
  const namespace = stringAt(bound, 'namespace') ?? '';
  const name = stringAt(bound, 'serviceaccount', 'name') ?? '';
  const account = store.get(serviceAccounts, namespace, name);
  if (!isSame(account, stringAt(bound, 'serviceaccount', 'uid')))
    return refuse('the service account has been deleted');
  if (bound['pod'] !== undefined) {
    const pod = store.get(pods, namespace, stringAt(bound, 'pod', 'name') ?? '');
    if (!isSame(pod, stringAt(bound, 'pod', 'uid')))
      return refuse('the pod the token is bound to has been deleted');
  }
  return { ok: true, user: userOf(claims, bound, { namespace, name }), audiences };
}

function isSame(object: KubeObject | undefined, uid: string | undefined): boolean {
  return object !== undefined && uid !== undefined && object.metadata.uid === uid;
}

function userOf(
  claims: JsonObject,
  bound: JsonObject,
  account: { namespace: string; name: string },
): User {
  const extra: Record<string, readonly string[]> = {};
  const put = (key: string, value: string | undefined): void => {
    if (value !== undefined) extra[`authentication.kubernetes.io/${key}`] = [value];
  };
  put('credential-id', `JTI=${String(claims['jti'])}`);
  put('pod-name', stringAt(bound, 'pod', 'name'));
  put('pod-uid', stringAt(bound, 'pod', 'uid'));
  put('node-name', stringAt(bound, 'node', 'name'));
  put('node-uid', stringAt(bound, 'node', 'uid'));
  const uid = stringAt(bound, 'serviceaccount', 'uid');
  return {
    username: `system:serviceaccount:${account.namespace}:${account.name}`,
    ...(uid === undefined ? {} : { uid }),
    groups: [
      'system:serviceaccounts',
      `system:serviceaccounts:${account.namespace}`,
      'system:authenticated',
    ],
    extra,
  };
}

function signJwt(claims: JsonObject, keyId: string, key: KeyObject): string {
  const encode = (value: unknown): string =>
    Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${encode({ alg: 'RS256', kid: keyId })}.${encode(claims)}`;
  return `${signed}.${sign('sha256', Buffer.from(signed), key).toString('base64url')}`;
}

function readJwt(token: string, keyId: string, key: KeyObject): JsonObject | undefined {
  const [header, payload, signature, ...rest] = token.split('.');
  if (token.length > maxTokenLength || rest.length > 0) return undefined;
  if (header === undefined || payload === undefined || signature === undefined) return undefined;
  const head = decodePart(header);
  if (head?.['alg'] !== 'RS256' || head['kid'] !== keyId) return undefined;
  const valid = verify(
    'sha256',
    Buffer.from(`${header}.${payload}`),
    key,
    Buffer.from(signature, 'base64url'),
  );
  return valid ? decodePart(payload) : undefined;
}

function decodePart(part: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'));
    return isObject(value) ? value : undefined;
  } catch {
    // A stranger's text that is no JSON is an invalid token and nothing else.
    return undefined;
  }
}
