import type { SpiffeId } from './identity.ts';

/** Asks the certificate authority for a certificate of `identity`, over the control channel. */
export interface CertificateRequest {
  readonly kind: 'certificate-request';
  /** Chosen by the proxy, unique on its connection; the answer carries it. */
  readonly id: number;
  readonly identity: SpiffeId;
  /** PKCS#10, PEM, at most `maxCsrBytes`; only its public key is used. */
  readonly csr: string;
}

export interface CertificateResponse {
  readonly kind: 'certificate';
  readonly id: number;
  /** PEM, leaf first, without the root. */
  readonly chain: readonly string[];
  /** PEM of the roots to trust. */
  readonly roots: readonly string[];
}

export interface CertificateRefused {
  readonly kind: 'certificate-refused';
  readonly id: number;
  readonly code: 'unauthenticated' | 'bad-request' | 'unavailable';
  /** Opaque where more would tell a stranger something; the controller's log says more. */
  readonly message: string;
}

export const maxCsrBytes = 16 * 1024;
