export type { CertificateParts, CertificateRejected, WorkloadCertificate } from './certificate.ts';
export { parseWorkloadCertificate } from './certificate.ts';
export { defaultKeyExchange, hboneAlpn, secureContextOf, secureContextOptions } from './context.ts';
export type { ExpectedPeer, PeerRejected, PeerRole } from './verify-peer.ts';
export { identityOf, verifyLeaf, verifyPeer } from './verify-peer.ts';
export type { CertificateMalformed, GeneratedRequest, LeafFacts } from './x509.ts';
export { createCertificateRequest, readLeaf } from './x509.ts';
