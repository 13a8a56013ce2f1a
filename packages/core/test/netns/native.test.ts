import { execFileSync } from 'node:child_process';
import type { AddressInfo, Server, Socket } from 'node:net';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { IpAddress, Port } from '@ambit/api';
import type { Netns } from '../../src/native/index.ts';
import {
  adoptServer,
  capturePackets,
  connectFd,
  connectSocket,
  fdOf,
  inNetns,
  listConnections,
  listenSocket,
  netnsInode,
  openNetns,
  originalDestination,
  spawnInNetns,
  trackConnections,
  untrackConnections,
  warmThreadpool,
} from '../../src/native/index.ts';

const ip = (text: string): IpAddress => text as IpAddress;
const port = (value: number): Port => value as Port;

let pod: Netns;
const closing: (() => void)[] = [];

function sh(script: string): string {
  return execFileSync('sh', ['-ec', script], { encoding: 'utf8' });
}

beforeAll(async () => {
  await warmThreadpool();
  sh(`
    ip netns add native-pod
    ip link add native0 type veth peer name eth0 netns native-pod
    ip addr add 10.9.0.1/24 dev native0; ip -6 addr add fd00:9::1/64 dev native0 nodad; ip link set native0 up
    ip -n native-pod addr add 10.9.0.2/24 dev eth0; ip -n native-pod -6 addr add fd00:9::2/64 dev eth0 nodad
    ip -n native-pod link set lo up; ip -n native-pod link set eth0 up
    ip netns exec native-pod nft -f - <<'R'
      table inet t {
        chain pre { type nat hook prerouting priority dstnat; tcp dport 80 redirect to :15006; }
      }
R
  `);
  pod = openNetns('/run/netns/native-pod');
});

afterAll(() => {
  for (const close of closing.reverse()) close();
  pod.close();
  sh('ip netns del native-pod');
});

function serve(listenPort: number, onConnection: (socket: Socket) => void): Server {
  const fd = listenSocket({ netnsFd: pod.fd, ip: ip('::'), port: listenPort });
  const server = adoptServer(fd, { allowHalfOpen: true }, onConnection);
  closing.push(() => server.close());
  return server;
}

function ask(host: string, to: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: to });
    let text = '';
    socket.on('data', (chunk) => (text += chunk.toString()));
    socket.on('end', () => resolve(text));
    socket.on('error', reject);
  });
}

describe('sockets in a pod', () => {
  test('a namespace is named by its inode and is left again', () => {
    expect(pod.inode).toBe(netnsInode('/run/netns/native-pod'));
    const inside = inNetns(pod.fd, () => netnsInode('/proc/thread-self/ns/net'));
    expect(inside).toBe(pod.inode);
    expect(netnsInode('/proc/thread-self/ns/net')).not.toBe(pod.inode);
  });

  test('a window that throws is left all the same', () => {
    expect(() =>
      inNetns(pod.fd, () => {
        throw new RangeError('inside');
      }),
    ).toThrow('inside');
    expect(netnsInode('/proc/thread-self/ns/net')).not.toBe(pod.inode);
  });

  test('listens on both families and tells the original destination of a redirected connection', async () => {
    serve(15006, (socket) => {
      const to = originalDestination(socket);
      socket.end(`${to?.ip} ${to?.port}`);
    });
    expect(await ask('10.9.0.2', 80)).toBe('10.9.0.2 80');
    expect(await ask('fd00:9::2', 80)).toBe('fd00:9::2 80');
    expect(await ask('10.9.0.2', 15006)).toBe('10.9.0.2 15006');
  });

  test('connects from inside the pod, with an address of its own choosing', async () => {
    const seen: string[] = [];
    const server = adoptServer(listenSocket({ ip: ip('::'), port: 0 }), {}, (socket) => {
      seen.push(socket.remoteAddress ?? '');
      socket.end();
    });
    closing.push(() => server.close());
    const to = { ip: ip('10.9.0.1'), port: port((server.address() as AddressInfo).port) };
    const plain = connectFd(connectSocket({ netnsFd: pod.fd, family: 'IPv4', mark: 0x539 }), to);
    await new Promise((resolve) => plain.once('end', resolve).resume());
    expect(() => plain.connect(1)).toThrow('connects once');
    plain.destroy();
    sh('ip route add 10.77.0.5 via 10.9.0.2');
    const fd = connectSocket({
      netnsFd: pod.fd,
      family: 'IPv4',
      transparent: true,
      mark: 0x539,
      bind: { ip: ip('10.77.0.5') },
    });
    sh(
      `ip -n native-pod rule add fwmark 0 lookup main; ip netns exec native-pod ip route add local 10.77.0.5 dev lo`,
    );
    const foreign = connectFd(fd, to);
    await new Promise((resolve) => foreign.once('end', resolve).resume());
    foreign.destroy();
    expect(seen).toEqual(['::ffff:10.9.0.2', '::ffff:10.77.0.5']);
  });

  test('a port that is taken is told by its code', () => {
    serve(15001, (socket) => socket.destroy());
    expect(() => listenSocket({ netnsFd: pod.fd, ip: ip('::'), port: 15001 })).toThrow(
      expect.objectContaining({ code: 'EADDRINUSE' }),
    );
  });

  test('a refused connection is an ordinary error', async () => {
    const fd = connectSocket({ netnsFd: pod.fd, family: 'IPv4' });
    const socket = connectFd(fd, { ip: ip('10.9.0.1'), port: port(1) });
    const error = await new Promise<NodeJS.ErrnoException>((resolve) =>
      socket.once('error', resolve),
    );
    expect(error.code).toBe('ECONNREFUSED');
  });

  test("Node still keeps a socket's descriptor where we look for it", () => {
    const server = serve(15020, (socket) => socket.destroy());
    expect(fdOf(server)).toBeGreaterThan(2);
  });

  test('a child is born in the pod', async () => {
    const child = spawnInNetns(pod.fd, 'readlink', ['/proc/self/ns/net'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const output = await new Promise<string>((resolve) =>
      child.stdout?.once('data', (data) => resolve(String(data))),
    );
    expect(output).toContain(pod.inode);
  });

  test('captures what crosses a link', async () => {
    const frames: Buffer[] = [];
    const capture = capturePackets(pod.fd, 'eth0', (frame) => frames.push(frame));
    serve(8080, (socket) => socket.end('a-word-on-the-link'));
    await ask('10.9.0.2', 8080);
    capture.stop();
    expect(frames.some((frame) => frame.includes('a-word-on-the-link'))).toBe(true);
  });
});

describe('connections that connection tracking is told of', () => {
  const to = (server: string, client: string, count: number) =>
    Array.from({ length: count }, (_, at) => ({
      client: { ip: ip(client), port: port(10_000 + at) },
      server: { ip: ip(server), port: port(5432) },
      stage: 'established' as const,
    }));
  const known = () => listConnections(pod.fd, 0xfff).filter(({ server }) => server.port === 5432);

  test('are known once each, however many they are, and forgotten', () => {
    const all = [...to('10.9.0.2', '10.9.0.1', 3_000), ...to('fd00:9::2', 'fd00:9::1', 100)];
    trackConnections(pod.fd, all);
    trackConnections(pod.fd, all);
    const found = known();
    const plain = found.map(({ client, server, stage }) => ({ client, server, stage }));
    expect(plain).toHaveLength(3_100);
    expect(plain).toEqual(expect.arrayContaining([all[0], all[2_999], all[3_099]]));
    expect(found[0]?.translated).toBe(false);
    untrackConnections(pod.fd, found.slice(10));
    untrackConnections(pod.fd, found.slice(10));
    expect(known()).toHaveLength(10);
  });

  test('and what the kernel refuses is told by its code', () => {
    expect(() => trackConnections(pod.fd, to('fd00:9::2', '10.9.0.1', 1))).toThrow(
      expect.objectContaining({ code: 'EINVAL' }),
    );
  });
});
