import { X509Certificate, createPrivateKey } from 'node:crypto';

import type { Cluster, Credential, Result, TrafficPolicy, UpstreamTls } from '@ambit/api';
import { credentialLack, err, ok } from '@ambit/api';

import type { SecretRecord } from '../kube/decode/secret.ts';

/** Secrets of this name and ending hold the roots of the one without it. */
export const rootsSuffix = '-cacert';

/** A Secret as proxies use it, or why they cannot. */
export type CompiledCredential = Result<Credential, string>;

/** `kubernetes.io/tls` and Opaque Secrets in Istio's forms; `twin` is the one with `-cacert`. */
export function compileCredential(
  namespace: string,
  name: string,
  record: SecretRecord,
  twin: SecretRecord | undefined,
): CompiledCredential {
  if (record.kind === 'unreadable') return err(record.why);
  const roots = twin?.kind === 'read' ? twin.values : undefined;
  if (record.kind === 'missing' && roots === undefined) return err('there is no such Secret');
  const values = record.kind === 'read' ? record.values : new Map<string, string>();
  const one = (...keys: readonly string[]): string | undefined =>
    keys.map((key) => values.get(key)).find((value) => value !== undefined);
  const other = (...keys: readonly string[]): string | undefined =>
    keys.map((key) => roots?.get(key)).find((value) => value !== undefined);
  const certificate = one('tls.crt', 'cert');
  const privateKey = one('tls.key', 'key');
  const ca = other('cacert', 'ca.crt', 'tls.crt') ?? one('cacert', 'ca.crt');
  const crl = other('crl', 'ca.crl') ?? one('crl', 'ca.crl');
  const problem = pairProblem(certificate, privateKey) ?? rootsProblem(ca);
  if (problem !== undefined) return err(problem);
  return ok({
    name,
    namespace,
    ...(certificate === undefined || privateKey === undefined ? {} : { certificate, privateKey }),
    ...(ca === undefined ? {} : { ca }),
    ...(crl === undefined ? {} : { crl }),
  });
}

function pairProblem(
  certificate: string | undefined,
  privateKey: string | undefined,
): string | undefined {
  if (certificate === undefined && privateKey === undefined) return undefined;
  if (certificate === undefined) return 'it has a key and no certificate (tls.crt)';
  if (privateKey === undefined) return 'it has a certificate and no key (tls.key)';
  let leaf: X509Certificate;
  try {
    leaf = new X509Certificate(certificate);
  } catch {
    return 'its certificate cannot be read as PEM';
  }
  try {
    // OpenSSL's own words are left out: they might quote what is secret.
    const key = createPrivateKey(privateKey);
    return leaf.checkPrivateKey(key) ? undefined : 'its key is not that of its certificate';
  } catch {
    return 'its key cannot be read as PEM';
  }
}

const block = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

function rootsProblem(ca: string | undefined): string | undefined {
  if (ca === undefined) return undefined;
  const blocks = ca.match(block);
  if (blocks === null) return 'its roots have no certificate in PEM';
  try {
    for (const one of blocks) new X509Certificate(one);
    return undefined;
  } catch {
    return 'one of its roots cannot be read';
  }
}

/** One place in a rule that names a credential. */
export interface CredentialUse {
  readonly name: string;
  /** Path of the field. */
  readonly field: string;
  readonly tls: Extract<UpstreamTls, { readonly mode: 'simple' | 'mutual' }>;
}

/** Every credential that a compiled rule names; a subset that says nothing itself uses what the whole does. */
export function credentialUses(
  rule: Pick<Cluster, 'policy' | 'subsets'>,
): readonly CredentialUse[] {
  const uses: CredentialUse[] = [];
  const seen = new Set<UpstreamTls>();
  const add = (tls: UpstreamTls | undefined, path: string): void => {
    if (tls === undefined || seen.has(tls)) return;
    seen.add(tls);
    if ((tls.mode === 'simple' || tls.mode === 'mutual') && tls.source.kind === 'credential')
      uses.push({ name: tls.source.name, field: `${path}.tls.credentialName`, tls });
  };
  const all = (policy: TrafficPolicy, path: string): void => {
    add(policy.tls, path);
    for (const [index, { settings }] of policy.ports.entries())
      add(settings.tls, `${path}.portLevelSettings[${index}]`);
  };
  all(rule.policy, 'spec.trafficPolicy');
  for (const [index, { policy }] of rule.subsets.entries())
    all(policy, `spec.subsets[${index}].trafficPolicy`);
  return uses;
}

/** What stands in the way of one use; undefined where nothing does. */
export function useProblem(
  { name, tls }: CredentialUse,
  compiled: CompiledCredential | undefined,
  waypointNamespace: string | undefined,
): string | undefined {
  const [namespace = ''] = name.split('/');
  const until = 'requests are answered 503 until then';
  if (waypointNamespace !== undefined && waypointNamespace !== namespace)
    return `the waypoint is in namespace ${waypointNamespace}, which gets no Secrets of ${namespace}; use a waypoint of ${namespace}; ${until}`;
  if (compiled === undefined) return `Secret ${name} has not been read yet; ${until}`;
  if (!compiled.ok) return `Secret ${name}: ${compiled.error}; ${until}`;
  const lack = credentialLack(compiled.value, tls);
  return lack === undefined ? undefined : `Secret ${name}: ${lack}; ${until}`;
}
