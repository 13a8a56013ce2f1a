import type { Workload } from '@ambit/api';
import type { TelemetryFacts } from './facts.ts';
import { appOf, principalOf, versionOf } from './facts.ts';

/**
 * The attributes that expressions may name, by Envoy's names (its public list of attributes) and, for the two ends,
 * what the mesh knows of them. Read when asked for; `undefined` is absent, which ends a comparison without a match.
 */
export class RequestAttributes {
  readonly #of: TelemetryFacts;

  constructor(of: TelemetryFacts) {
    this.#of = of;
  }

  get method(): string | undefined {
    return this.#of.method || undefined;
  }
  get path(): string | undefined {
    return this.#of.path || undefined;
  }
  get url_path(): string | undefined {
    return this.#of.path.split('?', 1)[0] || undefined;
  }
  get query(): string {
    const at = this.#of.path.indexOf('?');
    return at < 0 ? '' : this.#of.path.slice(at + 1);
  }
  get host(): string | undefined {
    return this.#of.authority || undefined;
  }
  get scheme(): string {
    return this.#of.scheme;
  }
  get protocol(): string | undefined {
    return this.#of.protocol;
  }
  get id(): string | undefined {
    return this.#of.requestHeader('x-request-id');
  }
  get useragent(): string | undefined {
    return this.#of.requestHeader('user-agent');
  }
  get referer(): string | undefined {
    return this.#of.requestHeader('referer');
  }
  get headers(): Map<string, string> {
    return mapOf(this.#of.requestHeaders());
  }
  get size(): bigint {
    return BigInt(this.#of.bytesReceived);
  }
  get total_size(): bigint {
    return this.size;
  }
  get duration_ms(): bigint {
    return BigInt(Math.round(this.#of.durationMs));
  }
}

export class ResponseAttributes {
  readonly #of: TelemetryFacts;

  constructor(of: TelemetryFacts) {
    this.#of = of;
  }

  get code(): bigint | undefined {
    return this.#of.responseCode === 0 ? undefined : BigInt(this.#of.responseCode);
  }
  get code_details(): string | undefined {
    return this.#of.responseCodeDetails;
  }
  get flags(): string | undefined {
    return this.#of.responseFlags;
  }
  get grpc_status(): bigint | undefined {
    return /^\d{1,2}$/.test(this.#of.grpcStatus) ? BigInt(this.#of.grpcStatus) : undefined;
  }
  get headers(): Map<string, string> {
    return mapOf(this.#of.responseHeaders());
  }
  get size(): bigint {
    return BigInt(this.#of.bytesSent);
  }
  get total_size(): bigint {
    return this.size;
  }
}

export class ConnectionAttributes {
  readonly #of: TelemetryFacts;

  constructor(of: TelemetryFacts) {
    this.#of = of;
  }

  get mtls(): boolean {
    return this.#of.downstreamPeerUri !== undefined;
  }
  get requested_server_name(): string | undefined {
    return this.#of.requestedServerName;
  }
  get uri_san_peer_certificate(): string | undefined {
    return this.#of.downstreamPeerUri;
  }
  get termination_details(): string | undefined {
    return this.#of.connectionTerminationDetails;
  }
}

export class UpstreamAttributes {
  readonly #of: TelemetryFacts;

  constructor(of: TelemetryFacts) {
    this.#of = of;
  }

  get address(): string | undefined {
    return this.#of.upstreamHost;
  }
  get port(): bigint | undefined {
    return portOf(this.#of.upstreamHost);
  }
  get transport_failure_reason(): string | undefined {
    return this.#of.upstreamTransportFailureReason;
  }
}

export class XdsAttributes {
  readonly #of: TelemetryFacts;

  constructor(of: TelemetryFacts) {
    this.#of = of;
  }

  get cluster_name(): string | undefined {
    return this.#of.upstreamCluster;
  }
  get route_name(): string | undefined {
    return this.#of.routeName;
  }
}

export class PeerAttributes {
  readonly #of: TelemetryFacts;
  readonly #end: 'source' | 'destination';

  constructor(of: TelemetryFacts, end: 'source' | 'destination') {
    this.#of = of;
    this.#end = end;
  }

  get #workload(): Workload | undefined {
    return this.#of[this.#end];
  }
  get address(): string | undefined {
    return this.#end === 'source'
      ? this.#of.downstreamRemoteAddress
      : this.#of.downstreamLocalAddress;
  }
  get port(): bigint | undefined {
    return portOf(this.address);
  }
  get principal(): string | undefined {
    if (this.#end === 'source') return this.#of.downstreamPeerUri;
    return this.#workload && principalOf(this.#workload);
  }
  get workload(): string | undefined {
    return this.#workload?.workloadName;
  }
  get namespace(): string | undefined {
    return this.#workload?.namespace;
  }
  get app(): string | undefined {
    return this.#workload && appOf(this.#workload);
  }
  get version(): string | undefined {
    return this.#workload && versionOf(this.#workload);
  }
  get cluster(): string | undefined {
    return this.#workload?.clusterId;
  }
  get labels(): Map<string, string> {
    return new Map(this.#workload?.labels ?? []);
  }
  get service(): string | undefined {
    return this.#end === 'destination' ? this.#of.service?.hostname : undefined;
  }
}

/** Types of the attributes, for the checker of expressions. */
export const attributeTypes = {
  request: {
    ctor: RequestAttributes,
    fields: {
      method: 'string',
      path: 'string',
      url_path: 'string',
      query: 'string',
      host: 'string',
      scheme: 'string',
      protocol: 'string',
      id: 'string',
      useragent: 'string',
      referer: 'string',
      headers: 'map<string, string>',
      size: 'int',
      total_size: 'int',
      duration_ms: 'int',
    },
  },
  response: {
    ctor: ResponseAttributes,
    fields: {
      code: 'int',
      code_details: 'string',
      flags: 'string',
      grpc_status: 'int',
      headers: 'map<string, string>',
      size: 'int',
      total_size: 'int',
    },
  },
  connection: {
    ctor: ConnectionAttributes,
    fields: {
      mtls: 'bool',
      requested_server_name: 'string',
      uri_san_peer_certificate: 'string',
      termination_details: 'string',
    },
  },
  upstream: {
    ctor: UpstreamAttributes,
    fields: { address: 'string', port: 'int', transport_failure_reason: 'string' },
  },
  xds: { ctor: XdsAttributes, fields: { cluster_name: 'string', route_name: 'string' } },
} as const;

export const peerFields = {
  address: 'string',
  port: 'int',
  principal: 'string',
  workload: 'string',
  namespace: 'string',
  app: 'string',
  version: 'string',
  cluster: 'string',
  labels: 'map<string, string>',
  service: 'string',
} as const;

export function attributesOf(facts: TelemetryFacts): Record<string, unknown> {
  return {
    request: new RequestAttributes(facts),
    response: new ResponseAttributes(facts),
    connection: new ConnectionAttributes(facts),
    upstream: new UpstreamAttributes(facts),
    xds: new XdsAttributes(facts),
    source: new PeerAttributes(facts, 'source'),
    destination: new PeerAttributes(facts, 'destination'),
  };
}

/** Values under one name are joined, as Envoy joins them. */
function mapOf(headers: Iterable<readonly [string, string]>): Map<string, string> {
  const map = new Map<string, string>();
  for (const [name, value] of headers) {
    const before = map.get(name);
    map.set(name, before === undefined ? value : `${before},${value}`);
  }
  return map;
}

function portOf(address: string | undefined): bigint | undefined {
  const port = /:(\d{1,5})$/.exec(address ?? '')?.[1];
  return port === undefined ? undefined : BigInt(port);
}
