import type { X509Certificate } from 'node:crypto';
import type { UpstreamTls } from '@ambit/api';
import { makeSpiffeIdentity, parseIp } from '@ambit/api';
import { readLeaf } from '@ambit/core';
import type { Asked, Configured, EndpointHost } from './endpoint.ts';

/** A handshake with an endpoint: whom to ask for, who may answer, and in what language. */
export interface TlsPlan {
  /** Absent: none is sent, as for an address. */
  readonly serverName: string | undefined;
  /** One of these must be in the certificate: DNS names, addresses or URIs. */
  readonly names: readonly string[];
  readonly alpn: readonly string[];
  /** Neither chain nor names are looked at. */
  readonly unverified: boolean;
}

type Originated = Exclude<UpstreamTls, { readonly mode: 'disable' | 'broken' }>;

/** Pure: what the settings mean for one connection. */
export function planTls(
  tls: Originated,
  asked: Asked,
  host: Pick<EndpointHost, 'workload'>,
  cluster: Configured,
): TlsPlan {
  if (tls.mode === 'istio-mutual') {
    const { trustDomain, namespace, serviceAccount } = host.workload;
    const identity = makeSpiffeIdentity(trustDomain, namespace, serviceAccount);
    const own = identity.ok ? [identity.value.uri] : [];
    return {
      serverName: tls.sni ?? meshServerName(cluster),
      names: tls.subjectAltNames.length > 0 ? tls.subjectAltNames : own,
      alpn: meshAlpn[asked.protocol],
      unverified: false,
    };
  }
  const name = tls.sni ?? serverNameOf(asked, cluster);
  const isName = name !== undefined && !parseIp(name).ok;
  return {
    serverName: isName ? name : undefined,
    names: tls.subjectAltNames.length > 0 ? tls.subjectAltNames : name === undefined ? [] : [name],
    alpn: alpn[asked.protocol],
    unverified: tls.insecureSkipVerify,
  };
}

/** The host that is asked for where the settings name none: the request's, and the service's where there is none. */
export function serverNameOf({ authority }: Asked, { key }: Configured): string | undefined {
  if (authority !== undefined && authority !== '') {
    return authority.replace(/:\d{1,5}$/, '').replace(/^\[|\]$/g, '');
  }
  return key?.service.slice(key.service.indexOf('/') + 1);
}

const alpn: Readonly<Record<Asked['protocol'], readonly string[]>> = {
  'HTTP/1.1': ['http/1.1'],
  'HTTP/2': ['h2'],
  alpn: ['h2', 'http/1.1'],
  tcp: [],
};

/** As Istio's own; the one for exchanging metadata is left out, because it is a protocol of its own. */
const meshAlpn: typeof alpn = {
  'HTTP/1.1': ['istio-http/1.1', 'istio', 'http/1.1'],
  'HTTP/2': ['istio-h2', 'istio', 'h2'],
  alpn: ['istio-h2', 'istio', 'h2', 'http/1.1'],
  tcp: ['istio'],
};

function meshServerName({ key }: Configured): string | undefined {
  if (key === undefined) return undefined;
  const host = key.service.slice(key.service.indexOf('/') + 1);
  return `outbound_.${key.port}_.${key.subset ?? ''}_.${host}`;
}

/** Whether a certificate whose chain is good stands for one of the names. */
export function namesMatch(certificate: X509Certificate, names: readonly string[]): boolean {
  let uris: readonly string[] | undefined;
  return names.some((name) => {
    if (name.includes('://')) {
      if (uris === undefined) {
        const leaf = readLeaf(certificate.raw);
        uris = leaf.ok ? leaf.value.uris : [];
      }
      return uris.includes(name);
    }
    if (parseIp(name).ok) return certificate.checkIP(name) !== undefined;
    return certificate.checkHost(name, { subject: 'never', partialWildcards: false }) !== undefined;
  });
}
