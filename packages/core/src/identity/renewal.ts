import type { WorkloadCertificate } from '../tls/index.ts';

/** Between two renewals that are all wanted at once, on one node. */
const spacingMs = 500;
const minSpreadMs = 2_000;
const maxSpreadMs = 60_000;

/** Milliseconds over which the renewals of so many certificates are spread: the authority serves other nodes too. */
export function renewalSpreadMs(held: number): number {
  return Math.min(maxSpreadMs, Math.max(minSpreadMs, held * spacingMs));
}

/**
 * Whether a certificate was made when others were to be trusted, or another signed: the controller names the roots in
 * order, that of its signer first.
 */
export function isOfRoots(
  { roots }: Pick<WorkloadCertificate, 'roots'>,
  now: readonly string[],
): boolean {
  return roots.length === now.length && roots.every((root, index) => root === now[index]);
}
