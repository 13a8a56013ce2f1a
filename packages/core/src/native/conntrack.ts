import type { IpAddress, SocketAddress } from '@ambit/api';
import { familyOf, ipBytes } from '@ambit/api';
import { checked, close, errnoName, recv, send, socket } from './libc.ts';
import { inNetns } from './netns.ts';
import { AF_INET, AF_INET6 } from './socket-address.ts';

/** A TCP connection that is open, from its client to its server. */
export interface OpenConnection {
  readonly client: SocketAddress;
  readonly server: SocketAddress;
  readonly stage: ConnectionStage;
}

/** How far its end has come: none has ended it, one has, that one's end was acknowledged, both have. */
export type ConnectionStage = 'established' | 'fin-wait' | 'close-wait' | 'last-ack';

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_NETFILTER = 12;
const MSG_DONTWAIT = 0x40;
/** Messages of subsystem 1, connection tracking. */
const newEntry = (1 << 8) | 0;
const deleteEntry = (1 << 8) | 2;
const NLM_F_REQUEST = 0x1;
const NLM_F_ACK = 0x4;
const NLM_F_EXCL = 0x200;
const NLM_F_CREATE = 0x400;
const NLMSG_ERROR = 2;
const nested = 0x8000;
const messageHeadBytes = 16;
/** Attributes by the place in which they are: linux/netfilter/nfnetlink_conntrack.h. */
const entry = { original: 1, reply: 2, status: 3, protocol: 4, timeout: 7 };
const tuple = { addresses: 1, protocol: 2 };
const source = { v4: 1, v6: 3 };
const destination = { v4: 2, v6: 4 };
const protocol = { number: 1, sourcePort: 2, destinationPort: 3 };
const tcp = { info: 1, state: 1, originalFlags: 4, replyFlags: 5 };
const IPPROTO_TCP = 6;
/** Sequence numbers are not known, so none is held against a window. */
const liberal = 0x08;
const seenReply = 0x2;
const assured = 0x4;
const confirmed = 0x8;

interface Tracking {
  /** Of `enum tcp_conntrack`. */
  readonly state: number;
  /**
   * How long it is kept while nothing is heard: what is established longer than the two hours after which keep-alive
   * probes are sent by default, the rest as Linux itself does.
   */
  readonly seconds: number;
}
const stages: Readonly<Record<ConnectionStage, Tracking>> = {
  established: { state: 3, seconds: 3 * 3600 },
  'fin-wait': { state: 4, seconds: 120 },
  'close-wait': { state: 5, seconds: 60 },
  'last-ack': { state: 6, seconds: 30 },
};

/** So many answers fit into what a socket may receive, whatever its size. */
const messagesAtOnce = 32;
const answerBytes = 8_192;

/**
 * Makes the connection tracking of a network namespace know connections that were open before it began, and which it would
 * else learn of by their next packet: until then it gives their ports to others. It must be at work, as it is where rules
 * of nft ask for it. What it knows already stays as it is. Returns what it did not. Throws with `code` what the kernel
 * refuses; needs NET_ADMIN in the namespace.
 */
export function trackConnections(
  netnsFd: number,
  connections: readonly OpenConnection[],
): OpenConnection[] {
  const made = exchange(netnsFd, connections.map(encodeEntry), 'EEXIST');
  return connections.filter((_, at) => made[at]);
}

/** Makes connection tracking forget connections, where it knows them. Throws as `trackConnections` does. */
export function untrackConnections(netnsFd: number, connections: readonly OpenConnection[]): void {
  exchange(netnsFd, connections.map(encodeDeletion), 'ENOENT');
}

/** Whether each message was carried out, or met what is expected of some. */
function exchange(netnsFd: number, messages: readonly Buffer[], expected: string): boolean[] {
  if (messages.length === 0) return [];
  const open = (): number =>
    checked('socket', socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  const fd = inNetns(netnsFd, open);
  const done: boolean[] = [];
  try {
    for (let first = 0; first < messages.length; first += messagesAtOnce) {
      const some = messages.slice(first, first + messagesAtOnce);
      const bytes = Buffer.concat(some);
      checked('send', send(fd, bytes, bytes.length, 0));
      done.push(...readAnswers(fd, some.length, expected));
    }
    return done;
  } finally {
    close(fd);
  }
}

/** The kernel has answered when `send` returns. */
function readAnswers(fd: number, count: number, expected: string): boolean[] {
  const bytes = Buffer.alloc(answerBytes);
  return Array.from({ length: count }, () => {
    checked('recv', recv(fd, bytes, bytes.length, MSG_DONTWAIT));
    const error = bytes.readUInt16LE(4) === NLMSG_ERROR ? -bytes.readInt32LE(messageHeadBytes) : 0;
    const code = errnoName(error);
    if (error !== 0 && code !== expected)
      throw Object.assign(new Error(`connection tracking: ${code}`), { code });
    return error === 0;
  });
}

function encodeEntry({ client, server, stage }: OpenConnection): Buffer {
  const flags = Buffer.from([liberal, liberal]);
  const { state, seconds } = stages[stage];
  return encodeMessage(newEntry, NLM_F_EXCL | NLM_F_CREATE, client.ip, [
    encodeTuple(entry.original, client, server),
    encodeTuple(entry.reply, server, client),
    attribute(entry.status, uint32(seenReply | assured | confirmed)),
    attribute(entry.timeout, uint32(seconds)),
    container(
      entry.protocol,
      container(
        tcp.info,
        attribute(tcp.state, Buffer.from([state])),
        attribute(tcp.originalFlags, flags),
        attribute(tcp.replyFlags, flags),
      ),
    ),
  ]);
}

function encodeDeletion({ client, server }: OpenConnection): Buffer {
  return encodeMessage(deleteEntry, 0, client.ip, [encodeTuple(entry.original, client, server)]);
}

function encodeMessage(
  type: number,
  flags: number,
  of: IpAddress,
  attributes: readonly Buffer[],
): Buffer {
  const family = familyOf(of) === 'IPv6' ? AF_INET6 : AF_INET;
  const body = Buffer.concat([Buffer.from([family, 0, 0, 0]), ...attributes]);
  const head = Buffer.alloc(messageHeadBytes);
  head.writeUInt32LE(head.length + body.length, 0);
  head.writeUInt16LE(type, 4);
  head.writeUInt16LE(NLM_F_REQUEST | NLM_F_ACK | flags, 6);
  return Buffer.concat([head, body]);
}

function encodeTuple(type: number, from: SocketAddress, to: SocketAddress): Buffer {
  const version = (ip: IpAddress): 'v4' | 'v6' => (familyOf(ip) === 'IPv6' ? 'v6' : 'v4');
  return container(
    type,
    container(
      tuple.addresses,
      attribute(source[version(from.ip)], Buffer.from(ipBytes(from.ip))),
      attribute(destination[version(to.ip)], Buffer.from(ipBytes(to.ip))),
    ),
    container(
      tuple.protocol,
      attribute(protocol.number, Buffer.from([IPPROTO_TCP])),
      attribute(protocol.sourcePort, uint16(from.port)),
      attribute(protocol.destinationPort, uint16(to.port)),
    ),
  );
}

function container(type: number, ...attributes: readonly Buffer[]): Buffer {
  return attribute(type | nested, Buffer.concat(attributes));
}

/** Netlink's own numbers are in the order of the machine, those inside netfilter's attributes in that of the network. */
function attribute(type: number, value: Buffer): Buffer {
  const length = 4 + value.length;
  const bytes = Buffer.alloc(Math.ceil(length / 4) * 4);
  bytes.writeUInt16LE(length, 0);
  bytes.writeUInt16LE(type, 2);
  value.copy(bytes, 4);
  return bytes;
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
