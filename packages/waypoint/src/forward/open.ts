import { connect } from 'node:net';
import type { IpAddress, SpiffeIdentity } from '@ambit/api';
import { clientIdentityHeader, hbonePort, makeSpiffeIdentity, parsePort } from '@ambit/api';
import type { ByteStream, HbonePool } from '@ambit/core';
import { MeshError, socketStream } from '@ambit/core';
import type { Configured, EndpointHost } from './endpoint.ts';
import type { OpenStream } from './connections.ts';

export interface OpenOptions {
  readonly pool: HbonePool;
  readonly identity: SpiffeIdentity;
  /** Our own address of the family of the endpoint's; only names the session. */
  readonly sourceIp: IpAddress;
}

const fixedPort = parsePort(hbonePort);
if (!fixedPort.ok) throw new TypeError(fixedPort.error.message);
const port = fixedPort.value;

/**
 * Opens a stream to an endpoint: a tunnel to a workload of the mesh, whose node proxy is told for whom, plain TCP to
 * anything else.
 */
export function createOpenStream(options: OpenOptions): OpenStream {
  return async (host, client, cluster) => {
    const { tls, pool } = cluster.settings;
    const timeoutMs = pool.connectTimeoutMs;
    if (tls?.mode === 'simple' || tls?.mode === 'mutual') {
      throw new MeshError('tls/not-done', 'TLS to endpoints is asked for and cannot be made yet');
    }
    return inMesh(host)
      ? tunnel(options, host, client, timeoutMs)
      : plain(host, cluster, timeoutMs);
  };
}

function inMesh({ workload, address }: EndpointHost): boolean {
  if (workload.tunnel !== 'hbone') return false;
  const { mode, ports } = workload.mtls;
  return (ports.find((one) => one.port === address.port)?.mode ?? mode) !== 'DISABLE';
}

async function tunnel(
  { pool, identity, sourceIp }: OpenOptions,
  { workload, address }: EndpointHost,
  client: string,
  timeoutMs: number,
): Promise<ByteStream> {
  const { trustDomain, namespace, serviceAccount } = workload;
  const expected = makeSpiffeIdentity(trustDomain, namespace, serviceAccount);
  if (!expected.ok) throw new MeshError(expected.error.code, expected.error.message);
  const { stream } = await pool.connect(
    {
      source: identity,
      sourceIp,
      nextHop: { ip: address.ip, port },
      expected: new Set([expected.value.uri]),
    },
    {
      authority: { kind: 'address', ...address },
      headers: [[clientIdentityHeader, client]],
      timeoutMs,
    },
  );
  return stream;
}

function plain(
  { address }: EndpointHost,
  _cluster: Configured,
  timeoutMs: number,
): Promise<ByteStream> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      host: address.ip,
      port: address.port,
      allowHalfOpen: true,
      noDelay: true,
    });
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new MeshError('net/connect-timeout', `no connection in ${timeoutMs} ms`));
    }, timeoutMs);
    const failed = (error: Error): void => {
      clearTimeout(timer);
      reject(error);
    };
    socket.once('error', failed);
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.off('error', failed);
      resolve(socketStream(socket));
    });
  });
}
