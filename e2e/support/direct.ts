import { connect } from 'node:net';
import type { SpiffeId } from '@ambit/api';
import type { ClientSession } from '@ambit/core';
import { connectSession, duplexOf, parseAuthority } from '@ambit/core';
import type { TestCa } from '@ambit/testkit';
import { makeTestCa } from '@ambit/testkit';
import type { MeshCluster } from './cluster.ts';

/** HBONE by hand: a session of a chosen identity with whoever listens at an address. */
export interface Direct {
  /** Asks for a tunnel and sends one GET through it: the answer's status line, or the status of the refusal. */
  ask(
    authority: string,
    path?: string,
    headers?: readonly (readonly [string, string])[],
  ): Promise<string>;
  close(): void;
}

/** The cluster's own authority, to sign with. */
export async function meshCa(mesh: MeshCluster): Promise<TestCa> {
  const secret = (await mesh.cluster.get({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { namespace: 'istio-system', name: 'istio-ca-secret' },
  })) as { readonly data: Readonly<Record<string, string>> };
  const pem = (name: string): string => Buffer.from(secret.data[name] ?? '', 'base64').toString();
  return makeTestCa({ certificate: pem('ca-cert.pem'), privateKey: pem('ca-key.pem') });
}

/** Signs an identity with the cluster's own authority, as somebody who stole a token could have had it. */
export async function directTo(
  mesh: MeshCluster,
  { as, ip, expected }: { readonly as: string; readonly ip: string; readonly expected: string },
): Promise<Direct> {
  const ca = await meshCa(mesh);
  const session = await connectSession({
    socket: connect({ host: ip, port: 15008, allowHalfOpen: true, noDelay: true }),
    certificate: await ca.certificate(as),
    expected: { kind: 'identities', identities: new Set([expected as SpiffeId]) },
  });
  return { ask: (...asked) => ask(session, ...asked), close: () => session.session.destroy() };
}

async function ask(
  session: ClientSession,
  text: string,
  path = '/',
  headers: readonly (readonly [string, string])[] = [],
): Promise<string> {
  const authority = parseAuthority(text);
  if (!authority.ok) throw new TypeError(authority.error.message);
  try {
    const { stream } = await session.openTunnel({
      authority: authority.value,
      headers: [...headers],
      timeoutMs: 5_000,
    });
    const duplex = duplexOf(stream);
    duplex.write(`GET ${path} HTTP/1.1\r\nhost: direct\r\nconnection: close\r\n\r\n`);
    const chunks: Buffer[] = [];
    for await (const chunk of duplex) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks).toString().split('\r\n')[0] ?? '';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
