import { constants } from 'node:crypto';
import type { SecureContext, SecureContextOptions } from 'node:tls';
import { createSecureContext } from 'node:tls';
import type { WorkloadCertificate } from './certificate.ts';

/** ALPN of HBONE: exactly this (contracts.md §5). */
export const hboneAlpn = ['h2'] as const;

/** Key exchange groups, most wanted first: post-quantum hybrid, then what older peers have. */
export const defaultKeyExchange = 'X25519MLKEM768:X25519:P-256';

/**
 * Options of both sides of a mesh handshake: TLS 1.3 only, our roots only. Tickets are off, so every connection
 * proves its identity anew and none outlives a change of roots; Node keeps no session store of its own.
 */
export function secureContextOptions(
  certificate: WorkloadCertificate,
  keyExchange: string = defaultKeyExchange,
): SecureContextOptions {
  return {
    cert: certificate.chain.join('\n'),
    key: certificate.privateKey,
    ca: [...certificate.roots],
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    ecdhCurve: keyExchange,
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

const contexts = new WeakMap<WorkloadCertificate, SecureContext>();

/** The certificate's context, made once: making one costs more than a handshake's own work in JavaScript. */
export function secureContextOf(certificate: WorkloadCertificate): SecureContext {
  let context = contexts.get(certificate);
  if (context === undefined) {
    context = createSecureContext(secureContextOptions(certificate));
    contexts.set(certificate, context);
  }
  return context;
}
