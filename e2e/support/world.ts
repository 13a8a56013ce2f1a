import type { IpAddress, SpiffeIdentity } from '@ambit/api';
import { makeSpiffeIdentity, parseTrustDomain } from '@ambit/api';
import type { ClientSession, WorkloadCertificate } from '@ambit/core';
import { connectFd, connectSession, connectSocket, warmThreadpool } from '@ambit/core';
import type { FakeController, FakeControllerOptions, TestCa } from '@ambit/testkit';
import { makeTestCa, startFakeController } from '@ambit/testkit';
import { familyOf } from '@ambit/api';
import { tell, tellMesh, workloadOf } from './mesh.ts';
import type { MeshNode } from './node.ts';
import { startNode } from './node.ts';
import type { Pod } from './pods.ts';
import { makeNetwork, makePod, removePod, socketAddress } from './pods.ts';

/** Two nodes: `client` on the first, `server` on the second, both captured; `plain` outside the mesh. */
export interface World {
  readonly ca: TestCa;
  readonly controller: FakeController;
  readonly node1: MeshNode;
  readonly node2: MeshNode;
  readonly client: Pod;
  readonly server: Pod;
  readonly plain: Pod;
  close(): Promise<void>;
}

export async function makeWorld(
  options: Omit<FakeControllerOptions, 'ca'> & {
    readonly settings?: Parameters<typeof startNode>[2];
  } = {},
): Promise<World> {
  await warmThreadpool();
  const removeNetwork = makeNetwork();
  const [client, server, plain] = [makePod('client', 1), makePod('server', 2), makePod('plain', 3)];
  const ca = await makeTestCa();
  const controller = await startFakeController({ ca, ...options });
  await tellMesh(controller, [ca.rootPem]);
  await tell(controller, {
    workloads: [
      workloadOf(client, 'n1'),
      workloadOf(server, 'n2'),
      workloadOf(plain, 'n2', { tunnel: 'none' }),
    ],
  });
  const node1 = await startNode('n1', controller, options.settings);
  const node2 = await startNode('n2', controller, options.settings);
  await controller.settled(2);
  await node1.enrol(client);
  await node2.enrol(server);
  return {
    ca,
    controller,
    node1,
    node2,
    client,
    server,
    plain,
    async close() {
      await node1.stop();
      await node2.stop();
      await controller.close();
      for (const pod of [client, server, plain]) removePod(pod);
      removeNetwork();
    },
  };
}

export function uri(name: string, trustDomain = 'cluster.local'): string {
  return `spiffe://${trustDomain}/ns/test/sa/${name}`;
}

/** An HBONE session made by hand from inside a pod. */
export async function hboneFrom(
  pod: Pod,
  to: { readonly ip: IpAddress; readonly name: string },
  certificate: WorkloadCertificate,
): Promise<ClientSession> {
  const fd = connectSocket({ netnsFd: pod.netns.fd, family: familyOf(to.ip) });
  const socket = connectFd(fd, socketAddress(to.ip, 15008));
  return connectSession({
    socket,
    certificate,
    expected: { kind: 'identities', identities: new Set([identityOf(to.name).uri]) },
  });
}

export function identityOf(name: string): SpiffeIdentity {
  const trustDomain = parseTrustDomain('cluster.local');
  const identity = trustDomain.ok
    ? makeSpiffeIdentity(trustDomain.value, 'test', name)
    : trustDomain;
  if (!identity.ok) throw new TypeError(identity.error.message);
  return identity.value;
}
