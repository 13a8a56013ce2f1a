import type { ServerOpts } from 'node:net';
import { Server, Socket } from 'node:net';
import type { IpAddress, IpFamily, SocketAddress } from '@ambit/api';
import { familyOf } from '@ambit/api';
import {
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
  bind,
  checked,
  close,
  getsockopt,
  listen,
  setSocketProgram,
  setsockopt,
  socket,
} from './libc.ts';
import { inNetns } from './netns.ts';
import { AF_INET, AF_INET6, decodeSocketAddress, encodeSocketAddress } from './socket-address.ts';

const SO_REUSEADDR = 2;
const SO_LINGER = 13;
const SO_REUSEPORT = 15;
const SO_MARK = 36;
const SO_ATTACH_REUSEPORT_CBPF = 51;
const SOL_IP = 0;
const IP_TRANSPARENT = 19;
const IP_BIND_ADDRESS_NO_PORT = 24;
const SO_ORIGINAL_DST = 80;
const SOL_IPV6 = 41;
const IPPROTO_TCP = 6;
const TCP_CORK = 3;
const IPV6_V6ONLY = 26;
const IPV6_TRANSPARENT = 75;

interface SocketMarks {
  /** Namespace in which the socket is made; this process's own when absent. */
  readonly netnsFd?: number | undefined;
  readonly mark?: number | undefined;
  /** Lets the socket use addresses that are not its host's; needs NET_ADMIN in the namespace. */
  readonly transparent?: boolean | undefined;
}

export interface ListenSocketOptions extends SocketMarks {
  /** `::` listens on both families where the namespace has IPv6. */
  readonly ip: IpAddress;
  readonly port: number;
  readonly backlog?: number | undefined;
  /** Lets another process of the same user listen there too, as one that takes over does. */
  readonly reusePort?: boolean | undefined;
}

export interface ConnectSocketOptions extends SocketMarks {
  readonly family: IpFamily;
  /** Source address; port 0 (or none) is chosen by the kernel at connect. */
  readonly bind?: { readonly ip: IpAddress; readonly port?: number } | undefined;
}

/** Makes a listening socket and returns its descriptor, for `adoptServer`. Throws with `code` as `listen` would. */
export function listenSocket(options: ListenSocketOptions): number {
  return makeSocket(options, familyOf(options.ip), (fd) => {
    setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (options.reusePort === true) setOption(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (familyOf(options.ip) === 'IPv6') setOption(fd, SOL_IPV6, IPV6_V6ONLY, 0);
    const address = encodeSocketAddress(options.ip, options.port);
    checked('bind', bind(fd, address, address.length));
    checked('listen', listen(fd, options.backlog ?? 4096));
  });
}

/** Makes a socket that is ready to connect, for `connectFd`. */
export function connectSocket(options: ConnectSocketOptions): number {
  return makeSocket(options, options.family, (fd) => {
    if (options.bind === undefined) return;
    // Without it every connection to any destination would use up a port of the source address.
    setOption(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    const address = encodeSocketAddress(options.bind.ip, options.bind.port ?? 0);
    checked('bind', bind(fd, address, address.length));
  });
}

/** A server on a listening descriptor, which it owns from now on. */
export function adoptServer(
  fd: number,
  options: ServerOpts,
  onConnection: (socket: Socket) => void,
): Server {
  const server = new Server(options, onConnection);
  server.listen({ fd, exclusive: true });
  return server;
}

/** One instruction, `return 1`: of the listeners of a port the second is taken. */
const takeTheSecond = Buffer.from([0x06, 0, 0, 0, 1, 0, 0, 0]);
const sockFprogBytes = 16;

/**
 * Leaves coming connections to the process that began to listen on the same port later (`reusePort`), so that nothing
 * waits here when this listener is closed a moment after. Where nobody else listens all stays as it is.
 */
export function leaveNewConnections(server: Server): void {
  const fd = fdOf(server);
  if (fd === undefined) return;
  const program = { length: 1, instructions: takeTheSecond };
  // A kernel that refuses spreads connections over both; those that wait at the close are then reset.
  setSocketProgram(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program, sockFprogBytes);
}

/**
 * Connects a descriptor made by `connectSocket`. The socket connects this once: a second `connect` on it would make
 * a new, unmarked one in the process's own namespace.
 */
export function connectFd(
  fd: number,
  to: SocketAddress,
  options: { allowHalfOpen?: boolean; noDelay?: boolean } = {},
): Socket {
  const made = new Socket({
    fd,
    manualStart: true,
    allowHalfOpen: options.allowHalfOpen ?? true,
  } as ConstructorParameters<typeof Socket>[0]);
  made.connect({ host: to.ip, port: to.port, noDelay: options.noDelay ?? true } as Parameters<
    Socket['connect']
  >[0] &
    object);
  made.connect = () => {
    throw new TypeError('a socket made for one pod connects once');
  };
  return made;
}

/** Where the client of a redirected connection wanted to go; without redirection the listener's own address. */
export function originalDestination(accepted: Socket): SocketAddress | undefined {
  const fd = fdOf(accepted);
  if (fd === undefined) return undefined;
  const bytes = Buffer.alloc(28);
  const v4 = getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, bytes, [16]) === 0;
  if (!v4 && getsockopt(fd, SOL_IPV6, SO_ORIGINAL_DST, bytes, [28]) !== 0) return undefined;
  return decodeSocketAddress(bytes);
}

/**
 * Makes the coming close of a socket a reset, for the other side to see that it was no orderly end; `false` takes that
 * back. The kernel keeps to it when the process is killed, too.
 */
export function resetOnClose(owner: Socket, reset = true): void {
  const fd = fdOf(owner);
  if (fd === undefined) return;
  const linger = Buffer.alloc(8);
  linger.writeInt32LE(reset ? 1 : 0, 0);
  setsockopt(fd, SOL_SOCKET, SO_LINGER, linger, linger.length);
}

/** Lets no part of a packet out until the socket is shut down, which then rides on its last packet, or for 200 ms. */
export function cork(owner: Socket): void {
  const fd = fdOf(owner);
  if (fd === undefined) return;
  const on = Buffer.alloc(4);
  on.writeInt32LE(1);
  setsockopt(fd, IPPROTO_TCP, TCP_CORK, on, on.length);
}

/** The descriptor behind a socket; an internal of Node, pinned by a test. */
export function fdOf(owner: Socket | Server): number | undefined {
  const handle = (owner as unknown as { _handle?: { fd?: number } | null })._handle;
  return handle?.fd !== undefined && handle.fd >= 0 ? handle.fd : undefined;
}

function makeSocket(options: SocketMarks, family: IpFamily, prepare: (fd: number) => void): number {
  const domain = family === 'IPv6' ? AF_INET6 : AF_INET;
  const make = (): number => {
    const fd = checked('socket', socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    try {
      if (options.mark !== undefined) setOption(fd, SOL_SOCKET, SO_MARK, options.mark);
      if (options.transparent === true) setTransparent(fd, family);
      prepare(fd);
      return fd;
    } catch (error) {
      close(fd);
      throw error;
    }
  };
  return options.netnsFd === undefined ? make() : inNetns(options.netnsFd, make);
}

function setTransparent(fd: number, family: IpFamily): void {
  if (family === 'IPv6') setOption(fd, SOL_IPV6, IPV6_TRANSPARENT, 1);
  else setOption(fd, SOL_IP, IP_TRANSPARENT, 1);
}

function setOption(fd: number, level: number, name: number, value: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  checked('setsockopt', setsockopt(fd, level, name, bytes, 4));
}
