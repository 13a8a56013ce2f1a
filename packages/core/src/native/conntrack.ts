import type { IpAddress, SocketAddress } from '@ambit/api';
import { familyOf, ipBytes } from '@ambit/api';
import { checked, close, errnoName, recv, send, socket } from './libc.ts';
import { inNetns } from './netns.ts';
import { AF_INET, AF_INET6 } from './socket-address.ts';

/** A TCP connection that is open, from its client to its server. */
export interface OpenConnection {
  readonly client: SocketAddress;
  readonly server: SocketAddress;
}

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_NETFILTER = 12;
const MSG_DONTWAIT = 0x40;
/** Of subsystem 1, connection tracking, message 0: an entry. */
const newEntry = 1 << 8;
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
const established = 3;
/** Sequence numbers are not known, so none is held against a window. */
const liberal = 0x08;
const seenReply = 0x2;
const assured = 0x4;
const confirmed = 0x8;
/** As long as Linux keeps an established connection of which nothing is heard: five days. */
const keptSeconds = 432_000;
/** So many answers fit into what a socket may receive, whatever its size. */
const messagesAtOnce = 32;
const answerBytes = 8_192;

/**
 * Makes the connection tracking of a network namespace know connections that were open before it began, and which it would
 * else learn of by their next packet: until then it gives their ports to others. It must be at work, as it is where rules
 * of nft ask for it. What it knows already stays as it is. Throws with `code` what the kernel refuses; needs NET_ADMIN in the namespace.
 */
export function trackOpenConnections(
  netnsFd: number,
  connections: readonly OpenConnection[],
): void {
  if (connections.length === 0) return;
  const open = (): number =>
    checked('socket', socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  const fd = inNetns(netnsFd, open);
  try {
    for (let first = 0; first < connections.length; first += messagesAtOnce) {
      const messages = connections.slice(first, first + messagesAtOnce).map(encodeEntry);
      const bytes = Buffer.concat(messages);
      checked('send', send(fd, bytes, bytes.length, 0));
      readAnswers(fd, messages.length);
    }
  } finally {
    close(fd);
  }
}

/** The kernel has answered when `send` returns. */
function readAnswers(fd: number, count: number): void {
  const bytes = Buffer.alloc(answerBytes);
  for (let read = 0; read < count; read += 1) {
    checked('recv', recv(fd, bytes, bytes.length, MSG_DONTWAIT));
    const error = bytes.readUInt16LE(4) === NLMSG_ERROR ? -bytes.readInt32LE(messageHeadBytes) : 0;
    const code = errnoName(error);
    if (error !== 0 && code !== 'EEXIST')
      throw Object.assign(new Error(`connection tracking: ${code}`), { code });
  }
}

function encodeEntry({ client, server }: OpenConnection): Buffer {
  const family = familyOf(client.ip) === 'IPv6' ? AF_INET6 : AF_INET;
  const flags = Buffer.from([liberal, liberal]);
  const body = Buffer.concat([
    Buffer.from([family, 0, 0, 0]),
    encodeTuple(entry.original, client, server),
    encodeTuple(entry.reply, server, client),
    attribute(entry.status, uint32(seenReply | assured | confirmed)),
    attribute(entry.timeout, uint32(keptSeconds)),
    container(
      entry.protocol,
      container(
        tcp.info,
        attribute(tcp.state, Buffer.from([established])),
        attribute(tcp.originalFlags, flags),
        attribute(tcp.replyFlags, flags),
      ),
    ),
  ]);
  const head = Buffer.alloc(messageHeadBytes);
  head.writeUInt32LE(head.length + body.length, 0);
  head.writeUInt16LE(newEntry, 4);
  head.writeUInt16LE(NLM_F_REQUEST | NLM_F_ACK | NLM_F_EXCL | NLM_F_CREATE, 6);
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
