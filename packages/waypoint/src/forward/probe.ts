import type { SpiffeIdentity } from '@ambit/api';
import { HeaderList } from '../http/headers.ts';
import type { ClientConnection, RequestHead } from '../http/message.ts';
import { Http1ClientConnection } from '../http1/client.ts';
import type { Http1Limits } from '../http1/limits.ts';
import { Http2ClientConnection } from '../http2/client.ts';
import type { UpstreamCluster } from './cluster.ts';
import type { Client, EndpointHost, OpenStream, UpstreamProtocol } from './endpoint.ts';
import type { HealthCheck } from './health-check.ts';
import { chooseProtocol } from './protocol-choice.ts';

export interface Probing {
  readonly open: OpenStream;
  readonly limits: Http1Limits;
  /** In whose name is asked: the waypoint's own. */
  readonly identity: SpiffeIdentity;
}

/** Asks an endpoint once, the way its requests go. True: it answered 200 to 299 in time. */
export type Probe = (
  host: EndpointHost,
  cluster: UpstreamCluster,
  settings: HealthCheck,
  authority: string,
) => Promise<boolean>;

export function createProbe({ open, limits, identity }: Probing): Probe {
  const client: Client = { peer: identity, source: undefined, local: undefined, authority: '' };
  return (host, cluster, { path, timeoutMs }, authority) =>
    new Promise((resolve) => {
      let connection: ClientConnection | undefined;
      let over = false;
      const finish = (passed: boolean): void => {
        if (over) return;
        over = true;
        clearTimeout(timer);
        connection?.destroy(new Error('checked'));
        resolve(passed);
      };
      const timer = setTimeout(() => finish(false), timeoutMs);
      const protocol = protocolOf(cluster);
      open(host, { client, protocol, authority }, cluster).then(
        ({ stream, alpn }) => {
          if (over) {
            stream.abort(new Error('the check took too long'));
            return;
          }
          const common = {
            idleTimeoutMs: timeoutMs,
            maxRequests: 1,
            onFree: () => undefined,
            onClosed: () => finish(false),
          };
          const isHttp2 = protocol === 'HTTP/2' || (protocol === 'alpn' && alpn === 'h2');
          connection = isHttp2
            ? new Http2ClientConnection(stream, { ...common, maxStreams: 1 })
            : new Http1ClientConnection(stream, { ...common, limits });
          ask(connection, path, authority, finish);
        },
        () => finish(false),
      );
    });
}

function protocolOf({ declared, settings }: UpstreamCluster): UpstreamProtocol {
  return chooseProtocol({ declared, settings, client: 'HTTP/1.1', grpc: false, upgrade: false });
}

function ask(
  connection: ClientConnection,
  path: string,
  authority: string,
  finish: (passed: boolean) => void,
): void {
  const head: RequestHead = {
    method: 'GET',
    scheme: 'http',
    authority,
    path,
    headers: HeaderList.of([['user-agent', 'ambit-health-check']]),
    protocol: 'HTTP/1.1',
    upgrade: undefined,
    expectContinue: false,
  };
  const exchange = connection.request(head, false, {
    informational: () => undefined,
    response: ({ status }) => finish(status >= 200 && status <= 299),
    data: () => undefined,
    end: () => undefined,
    upgraded: (_head, stream) => {
      stream.abort(new Error('nobody asked'));
      finish(false);
    },
    drain: () => undefined,
    failed: () => finish(false),
  });
  exchange.end();
}
