import { createHash } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import type { Result, SpiffeId, SpiffeIdentity, TrustDomain } from '@ambit/api';
import { err, ok, parseSpiffeIdentity } from '@ambit/api';
import type { LeafFacts } from './x509.ts';
import { readLeaf } from './x509.ts';

/** Why a peer was turned away after its handshake. */
export interface PeerRejected {
  readonly code:
    | 'tls/no-certificate'
    | 'tls/untrusted-chain'
    | 'tls/wrong-alpn'
    | 'tls/certificate-malformed'
    | 'tls/wrong-key-usage'
    | 'tls/not-valid-now'
    | 'tls/not-one-identity'
    | 'tls/foreign-trust-domain'
    | 'tls/unexpected-identity';
  readonly message: string;
}

/** Whom the other side may be: any of the named identities, or anyone of a trust domain. */
export type ExpectedPeer =
  | { readonly kind: 'identities'; readonly identities: ReadonlySet<SpiffeId> }
  | { readonly kind: 'trust-domains'; readonly trustDomains: ReadonlySet<TrustDomain> };

export type PeerRole = 'client' | 'server';

const maxRemembered = 1024;
const remembered = new Map<string, Result<LeafFacts, PeerRejected>>();

/**
 * Judges the other side of a finished handshake. OpenSSL has built the chain; what it cannot know is checked
 * here: ALPN, one strict SPIFFE URI, the usages of a leaf, and that the identity is one we came for.
 * `role` is the peer's part in the handshake.
 */
export function verifyPeer(
  socket: TLSSocket,
  role: PeerRole,
  expected: ExpectedPeer,
): Result<SpiffeIdentity, PeerRejected> {
  if (!socket.authorized) {
    return reject(
      'tls/untrusted-chain',
      `OpenSSL refused the chain: ${authorizationError(socket)}`,
    );
  }
  if (socket.alpnProtocol !== 'h2') {
    return reject('tls/wrong-alpn', 'the peer did not agree on ALPN h2');
  }
  const der = socket.getPeerX509Certificate()?.raw;
  if (der === undefined) return reject('tls/no-certificate', 'the peer showed no certificate');
  return verifyLeaf(der, role, expected, new Date());
}

/** The part of `verifyPeer` that needs no socket; `der` is the leaf of a chain already found good. */
export function verifyLeaf(
  der: Uint8Array,
  role: PeerRole,
  expected: ExpectedPeer,
  now: Date,
): Result<SpiffeIdentity, PeerRejected> {
  const facts = factsOf(der);
  if (!facts.ok) return facts;
  const { isCa, digitalSignature, mayIssue, clientAuth, serverAuth } = facts.value;
  if (isCa || mayIssue) {
    return reject('tls/wrong-key-usage', 'the leaf is a certificate authority');
  }
  if (!digitalSignature || !(role === 'client' ? clientAuth : serverAuth)) {
    return reject('tls/wrong-key-usage', `the leaf is not meant for a TLS ${role}`);
  }
  if (now < facts.value.notBefore || now > facts.value.notAfter) {
    return reject('tls/not-valid-now', 'the leaf is not valid at this time');
  }
  const identity = identityOf(facts.value);
  return identity.ok ? expect(identity.value, expected) : identity;
}

/** The one identity a leaf stands for: exactly one URI, and it is of the service-account form. */
export function identityOf(facts: LeafFacts): Result<SpiffeIdentity, PeerRejected> {
  const [uri, ...others] = facts.uris;
  if (uri === undefined || others.length > 0) {
    return reject(
      'tls/not-one-identity',
      `the leaf names ${facts.uris.length} URIs where exactly one must stand`,
    );
  }
  const identity = parseSpiffeIdentity(uri);
  return identity.ok ? identity : reject('tls/not-one-identity', identity.error.message);
}

function expect(
  identity: SpiffeIdentity,
  expected: ExpectedPeer,
): Result<SpiffeIdentity, PeerRejected> {
  if (expected.kind === 'trust-domains') {
    if (expected.trustDomains.has(identity.trustDomain)) return ok(identity);
    return reject('tls/foreign-trust-domain', `${identity.uri} is of a foreign trust domain`);
  }
  if (expected.identities.has(identity.uri)) return ok(identity);
  const wanted = [...expected.identities].join(', ');
  return reject('tls/unexpected-identity', `the peer is ${identity.uri}, expected ${wanted}`);
}

// Decoding costs about as much as the handshake itself, and the same few peers come again and again.
function factsOf(der: Uint8Array): Result<LeafFacts, PeerRejected> {
  const key = createHash('sha256').update(der).digest('base64');
  let facts = remembered.get(key);
  if (facts === undefined) {
    facts = readLeaf(der);
    const [oldest] = remembered.size >= maxRemembered ? remembered.keys() : [];
    if (oldest !== undefined) remembered.delete(oldest);
    remembered.set(key, facts);
  }
  return facts;
}

function authorizationError(socket: TLSSocket): string {
  // Node types it as Error; at run time it is the code's string, or null.
  const reason = socket.authorizationError as unknown;
  return typeof reason === 'string' ? reason : 'no certificate';
}

function reject(code: PeerRejected['code'], message: string): Result<never, PeerRejected> {
  return err({ code, message });
}
