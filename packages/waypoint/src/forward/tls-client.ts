import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { SecureContext, TLSSocket } from 'node:tls';
import { connect } from 'node:tls';
import { MeshError, errnoCode, messageOf } from '@ambit/core';
import type { TlsPlan } from './tls-plan.ts';
import { namesMatch } from './tls-plan.ts';

/** Shakes hands over an open connection and judges who answered. Throws a MeshError that begins with `TLS_error`. */
export function startTls(
  transport: Socket | Duplex,
  context: SecureContext,
  plan: TlsPlan,
): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      socket: transport,
      secureContext: context,
      ALPNProtocols: [...plan.alpn],
      // Judged below, so that the reason can be told.
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
      ...(plan.serverName === undefined ? {} : { servername: plan.serverName }),
    });
    const fail = (why: string, cause?: unknown): void => {
      reject(new MeshError('tls/handshake', `TLS_error: ${why}`, { cause }));
      socket.destroy();
    };
    const failed = (error: Error): void => fail(reasonOf(error), error);
    const closed = (): void => fail('the endpoint closed the connection in the handshake');
    socket.once('error', failed);
    socket.once('close', closed);
    socket.once('secureConnect', () => {
      socket.off('close', closed);
      const why = objection(socket, plan);
      if (why !== undefined) {
        fail(why);
        return;
      }
      socket.off('error', failed);
      resolve(socket);
    });
    socket.on('error', () => undefined);
  });
}

function objection(socket: TLSSocket, plan: TlsPlan): string | undefined {
  if (plan.unverified) return undefined;
  if (!socket.authorized) {
    // Node types it as Error; at run time it is the code's string.
    const code = socket.authorizationError as unknown;
    return `certificate verify failed: ${typeof code === 'string' ? code : 'no certificate'}`;
  }
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return 'the endpoint showed no certificate';
  if (namesMatch(certificate, plan.names)) return undefined;
  return `certificate verify failed: it is for none of ${plan.names.join(', ').slice(0, 300)}`;
}

function reasonOf(error: Error): string {
  const code = errnoCode(error);
  return code?.startsWith('ERR_SSL_') === true
    ? code.slice('ERR_SSL_'.length).toLowerCase().replaceAll('_', ' ')
    : (code ?? messageOf(error));
}
