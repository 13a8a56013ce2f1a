import type { TrafficSettings } from '@ambit/api';
import type { HttpProtocol } from '../http/message.ts';
import type { UpstreamProtocol } from './endpoint.ts';

/** What a cluster's port says of itself. */
export type DeclaredHttp = 'http' | 'http2' | undefined;

export interface ProtocolFacts {
  readonly declared: DeclaredHttp;
  readonly settings: Pick<TrafficSettings, 'pool' | 'tls'>;
  /** What the client spoke. */
  readonly client: HttpProtocol;
  readonly grpc: boolean;
  /** The request asks to change the protocol, which HTTP/2 cannot do. */
  readonly upgrade: boolean;
}

/** The version of HTTP in which an endpoint is spoken to, by Istio's rules for ports and `connectionPool.http`. */
export function chooseProtocol(facts: ProtocolFacts): UpstreamProtocol {
  const { declared, settings, client, grpc, upgrade } = facts;
  const { h2Upgrade, useClientProtocol } = settings.pool;
  const asClient = client === 'HTTP/2' ? 'HTTP/2' : 'HTTP/1.1';
  if (upgrade) return 'HTTP/1.1';
  if (useClientProtocol) return asClient;
  // gRPC is not there without HTTP/2.
  if (declared === 'http2' || (grpc && client === 'HTTP/2')) return 'HTTP/2';
  if (h2Upgrade === 'do-not-upgrade') return 'HTTP/1.1';
  const { mode } = settings.tls ?? { mode: 'disable' };
  if (mode === 'simple' || mode === 'mutual') return 'alpn';
  if (h2Upgrade === 'upgrade') return 'HTTP/2';
  // A port that says nothing speaks what its clients speak.
  return declared === 'http' ? 'HTTP/1.1' : asClient;
}
