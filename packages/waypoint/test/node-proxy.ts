import { Server, Socket } from 'node:net';
import { parseTrustDomain } from '@ambit/api';
import { createHboneServer } from '@ambit/core';
import type { TestCa } from '@ambit/testkit';

/** The node proxy of one endpoint: tunnels to `ip` end at `to`. */
export interface NodeProxy {
  readonly authorities: string[];
  close(): Promise<void>;
}

export async function startNodeProxy(
  ca: TestCa,
  ip: string,
  to: { readonly ip: string; readonly port: number },
  serviceAccount = 'meshed',
): Promise<NodeProxy> {
  const trustDomain = parseTrustDomain('cluster.local');
  if (!trustDomain.ok) throw new TypeError('no trust domain');
  const authorities: string[] = [];
  const hbone = createHboneServer<'node'>({
    trustDomains: () => new Set([trustDomain.value]),
    onRejected: () => undefined,
    onTunnel: (request) => {
      authorities.push(request.authority);
      const stream = request.accept([]);
      const socket = new Socket({ allowHalfOpen: true });
      socket.connect(to.port, to.ip);
      socket.on('error', () => undefined);
      stream?.attach({
        data: (chunk) => void socket.write(chunk),
        end: () => socket.end(),
        drain: () => undefined,
        close: () => socket.destroy(),
      });
      socket.on('data', (chunk: Buffer) => stream?.write(chunk));
      socket.on('end', () => stream?.end());
    },
  });
  const certificate = await ca.certificate(`spiffe://cluster.local/ns/test/sa/${serviceAccount}`);
  const sockets = new Set<Socket>();
  const server = new Server({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    hbone.accept(socket, certificate, 'node');
  });
  await new Promise<void>((resolve) => server.listen(15008, ip, resolve));
  return {
    authorities,
    close: async () => {
      hbone.end(() => true, 'destroy');
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
