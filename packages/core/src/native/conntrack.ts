import type { IpAddress, SocketAddress } from '@ambit/api';
import { familyOf, ipBytes, ipOfBytes, parsePort } from '@ambit/api';
import {
  MSG_DONTWAIT,
  SOCK_CLOEXEC,
  SOCK_RAW,
  checked,
  close,
  errnoName,
  recv,
  send,
  socket,
} from './libc.ts';
import { inNetns } from './netns.ts';
import { AF_INET, AF_INET6 } from './socket-address.ts';

/** A TCP connection, from its client to its server. */
export interface Connection {
  readonly client: SocketAddress;
  readonly server: SocketAddress;
}

/** How far its end has come: none has ended it, one has, that one's end was acknowledged, both have. */
export type ConnectionStage = 'established' | 'fin-wait' | 'close-wait' | 'last-ack';

export interface OpenConnection extends Connection {
  readonly stage: ConnectionStage;
}

interface Ends {
  readonly from: SocketAddress;
  readonly to: SocketAddress;
}

/** What connection tracking knows of a TCP connection. */
export interface TrackedConnection extends Connection {
  /** `asked`: nobody has answered. `other`: it is being accepted, or has ended. */
  readonly stage: ConnectionStage | 'asked' | 'other';
  /** What an answer is from and to, where it differs by translation from the server and the client. */
  readonly answer: Ends;
  /** Whether the server's side sees another source than the client has. */
  readonly translated: boolean;
  /** By which the kernel finds this entry and no other. */
  readonly handle: Buffer;
}

const AF_NETLINK = 16;
const AF_UNSPEC = 0;
const NETLINK_NETFILTER = 12;
/** Messages of subsystem 1, connection tracking. */
const newEntry = (1 << 8) | 0;
const listEntries = (1 << 8) | 1;
const deleteEntry = (1 << 8) | 2;
const NLM_F_REQUEST = 0x1;
const NLM_F_ACK = 0x4;
const NLM_F_DUMP = 0x300;
const NLM_F_EXCL = 0x200;
const NLM_F_CREATE = 0x400;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const nested = 0x8000;
const typeMask = 0x3fff;
const messageHeadBytes = 16;
const netfilterHeadBytes = 4;
/** Attributes by the place in which they are: linux/netfilter/nfnetlink_conntrack.h. */
const entry = {
  original: 1,
  reply: 2,
  status: 3,
  protocol: 4,
  timeout: 7,
  mark: 8,
  id: 12,
  markMask: 21,
  statusMask: 26,
};
const tuple = { addresses: 1, protocol: 2 };
const source = { v4: 1, v6: 3 };
const destination = { v4: 2, v6: 4 };
const protocol = { number: 1, sourcePort: 2, destinationPort: 3 };
const tcp = { info: 1, state: 1, originalFlags: 4, replyFlags: 5 };
const IPPROTO_TCP = 6;
/** Sequence numbers are not known, so none is held against a window; what has ended may begin anew. */
const tcpFlags = { liberal: 0x08, endSeen: 0x04 };
const status = {
  seenReply: 0x2,
  confirmed: 0x8,
  translatedSource: 0x10,
  translatedDestination: 0x20,
};

interface Tracking {
  /** Of `enum tcp_conntrack`. */
  readonly state: number;
  /**
   * How long it is kept while nothing is heard: longer than the two hours after which keep-alive probes are sent by
   * default, also where one side has ended and the other sends on; what both have ended as Linux itself does.
   */
  readonly seconds: number;
}
const stages: Readonly<Record<ConnectionStage, Tracking>> = {
  established: { state: 3, seconds: 3 * 3600 },
  'fin-wait': { state: 4, seconds: 3 * 3600 },
  'close-wait': { state: 5, seconds: 3 * 3600 },
  'last-ack': { state: 6, seconds: 30 },
};
const asked = 1;
const stageOf = new Map<number, ConnectionStage | 'asked'>([
  [asked, 'asked'],
  ...Object.entries(stages).map(([stage, { state }]) => [state, stage as ConnectionStage] as const),
]);

/** So many answers fit into what a socket may receive, whatever its size. */
const messagesAtOnce = 32;
const answerBytes = 65_536;

/**
 * The TCP connections that the connection tracking of a network namespace knows, or those of which the source is translated,
 * but for those that are redirected and those whose mark has one of these bits. Throws with `code` what the kernel refuses;
 * needs NET_ADMIN in the namespace.
 */
export function listConnections(
  netnsFd: number,
  withoutMark: number,
  which: 'all' | 'translated' = 'all',
): TrackedConnection[] {
  const found: TrackedConnection[] = [];
  const wanted = which === 'translated' ? status.translatedSource : 0;
  const mask = status.translatedDestination | wanted;
  withSocket(netnsFd, (fd) => {
    const filter = [
      attribute(entry.mark, uint32(0)),
      attribute(entry.markMask, uint32(withoutMark)),
      // Older kernels do not look at these.
      attribute(entry.status, uint32(wanted)),
      attribute(entry.statusMask, uint32(mask)),
    ];
    const bytes = encodeMessage(listEntries, NLM_F_DUMP, AF_UNSPEC, filter);
    checked('send', send(fd, bytes, bytes.length, 0));
    readMessages(fd, (type, body) => {
      if (type === NLMSG_DONE) return true;
      throwIfRefused(type, body);
      const one = decodeEntry(body, wanted, mask);
      if (one !== undefined) found.push(one);
      return false;
    });
  });
  return found;
}

/**
 * Makes the connection tracking of a network namespace know connections that were open before it began, and which it would
 * else learn of by their next packet: until then it gives their ports to others. It must be at work, as it is where rules
 * of nft ask for it. What it knows already stays as it is. Throws as `listConnections` does.
 */
export function trackConnections(netnsFd: number, connections: readonly OpenConnection[]): void {
  exchange(netnsFd, connections.map(encodeEntry), 'EEXIST');
}

/** Makes connection tracking forget what it knows of connections, if it still does. Throws as `listConnections` does. */
export function untrackConnections(
  netnsFd: number,
  connections: readonly TrackedConnection[],
): void {
  exchange(netnsFd, connections.map(encodeDeletion), 'ENOENT');
}

function exchange(netnsFd: number, messages: readonly Buffer[], expected: string): void {
  if (messages.length === 0) return;
  withSocket(netnsFd, (fd) => {
    for (let first = 0; first < messages.length; first += messagesAtOnce) {
      const some = messages.slice(first, first + messagesAtOnce);
      const bytes = Buffer.concat(some);
      checked('send', send(fd, bytes, bytes.length, 0));
      let answers = 0;
      readMessages(fd, (type, body) => {
        throwIfRefused(type, body, expected);
        answers += 1;
        return answers === some.length;
      });
    }
  });
}

function withSocket(netnsFd: number, work: (fd: number) => void): void {
  const open = (): number =>
    checked('socket', socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  const fd = inNetns(netnsFd, open);
  try {
    work(fd);
  } finally {
    close(fd);
  }
}

/** Hands over each message until one is the last. The kernel has answered when `send`, or the `recv` before, returns. */
function readMessages(fd: number, isLast: (type: number, body: Buffer) => boolean): void {
  const bytes = Buffer.alloc(answerBytes);
  for (;;) {
    const length = checked('recv', recv(fd, bytes, bytes.length, MSG_DONTWAIT));
    for (let at = 0; at + messageHeadBytes <= length;) {
      const end = at + bytes.readUInt32LE(at);
      const body = bytes.subarray(at + messageHeadBytes, end);
      if (isLast(bytes.readUInt16LE(at + 4), body)) return;
      at = aligned(end);
    }
  }
}

function throwIfRefused(type: number, body: Buffer, expected?: string): void {
  const error = type === NLMSG_ERROR ? -body.readInt32LE(0) : 0;
  const code = errnoName(error);
  if (error !== 0 && code !== expected)
    throw Object.assign(new Error(`connection tracking: ${code}`), { code });
}

function decodeEntry(body: Buffer, wanted: number, mask: number): TrackedConnection | undefined {
  const own = attributesOf(body.subarray(netfilterHeadBytes));
  const bits = own.get(entry.status)?.readUInt32BE(0) ?? 0;
  if ((bits & mask) !== wanted) return undefined;
  const [original, id] = [own.get(entry.original), own.get(entry.id)];
  const info = attributesOf(own.get(entry.protocol)).get(tcp.info);
  const state = attributesOf(info).get(tcp.state)?.[0];
  const [question, answer] = [decodeTuple(original), decodeTuple(own.get(entry.reply))];
  if (original === undefined || id === undefined || state === undefined) return undefined;
  if (question === undefined || answer === undefined) return undefined;
  return {
    client: question.from,
    server: question.to,
    stage: stageOf.get(state) ?? 'other',
    answer,
    translated: (bits & status.translatedSource) !== 0,
    handle: Buffer.concat([
      Buffer.from([body[0] ?? AF_UNSPEC, 0, 0, 0]),
      attribute(entry.original | nested, original),
      attribute(entry.id, id),
    ]),
  };
}

function decodeTuple(bytes: Buffer | undefined): Ends | undefined {
  const own = attributesOf(bytes);
  const ips = attributesOf(own.get(tuple.addresses));
  const ports = attributesOf(own.get(tuple.protocol));
  if (ports.get(protocol.number)?.[0] !== IPPROTO_TCP) return undefined;
  const from = decodeEnd(ips.get(source.v4) ?? ips.get(source.v6), ports.get(protocol.sourcePort));
  const to = decodeEnd(
    ips.get(destination.v4) ?? ips.get(destination.v6),
    ports.get(protocol.destinationPort),
  );
  return from === undefined || to === undefined ? undefined : { from, to };
}

function decodeEnd(
  ipBytes: Buffer | undefined,
  port: Buffer | undefined,
): SocketAddress | undefined {
  const ip = ipOfBytes(ipBytes ?? Buffer.alloc(0));
  const number = parsePort(port?.readUInt16BE(0) ?? 0);
  return ip !== undefined && number.ok ? { ip, port: number.value } : undefined;
}

/** None where there is nothing to read. */
function attributesOf(bytes: Buffer = Buffer.alloc(0)): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = bytes.readUInt16LE(at);
    if (length < 4) break;
    found.set(bytes.readUInt16LE(at + 2) & typeMask, bytes.subarray(at + 4, at + length));
    at = aligned(at + length);
  }
  return found;
}

function encodeEntry({ client, server, stage }: OpenConnection): Buffer {
  const { state, seconds } = stages[stage];
  const bits = tcpFlags.liberal | (stage === 'established' ? 0 : tcpFlags.endSeen);
  const flags = Buffer.from([bits, bits]);
  // Not `assured`: where the table is full these go first.
  return encodeMessage(newEntry, NLM_F_ACK | NLM_F_EXCL | NLM_F_CREATE, familyNumber(client.ip), [
    encodeTuple(entry.original, client, server),
    encodeTuple(entry.reply, server, client),
    attribute(entry.status, uint32(status.seenReply | status.confirmed)),
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

function encodeDeletion({ handle }: TrackedConnection): Buffer {
  return withHead(deleteEntry, NLM_F_ACK, handle);
}

function encodeMessage(
  type: number,
  flags: number,
  family: number,
  attributes: readonly Buffer[],
): Buffer {
  return withHead(type, flags, Buffer.concat([Buffer.from([family, 0, 0, 0]), ...attributes]));
}

function withHead(type: number, flags: number, body: Buffer): Buffer {
  const head = Buffer.alloc(messageHeadBytes);
  head.writeUInt32LE(head.length + body.length, 0);
  head.writeUInt16LE(type, 4);
  head.writeUInt16LE(NLM_F_REQUEST | flags, 6);
  return Buffer.concat([head, body]);
}

function familyNumber(ip: IpAddress): number {
  return familyOf(ip) === 'IPv6' ? AF_INET6 : AF_INET;
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
  const bytes = Buffer.alloc(aligned(length));
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

function aligned(length: number): number {
  return Math.ceil(length / 4) * 4;
}
