import { connect, type Socket } from 'node:net';
import { connectFd, connectSocket, type Netns } from '@ambit/core';
import { familyOf, parseIp, parsePort } from '@ambit/api';

/** Connects from the caller's own network namespace, until `signal` aborts. */
export async function dial(host: string, port: number, signal: AbortSignal): Promise<Socket> {
  return untilConnected(connect({ host, port }), signal);
}

/** Connects from another network namespace; `host` must be an address there, since names are the machine's. */
export async function dialFrom(
  netns: Netns,
  host: string,
  port: number,
  signal: AbortSignal,
): Promise<Socket> {
  const ip = parseIp(host);
  const toPort = parsePort(port);
  if (!ip.ok || !toPort.ok) throw new RangeError(`${host}:${port} is no address to connect to`);
  const fd = connectSocket({ netnsFd: netns.fd, family: familyOf(ip.value) });
  return untilConnected(
    connectFd(fd, { ip: ip.value, port: toPort.value }, { allowHalfOpen: false }),
    signal,
  );
}

/** Waits for a connecting socket; a failure or an abort destroys it. */
export async function untilConnected(socket: Socket, signal: AbortSignal): Promise<Socket> {
  await new Promise<void>((resolve, reject) => {
    const onAbort = (): void => {
      socket.destroy();
      reject(new Error('connecting took too long'));
    };
    const done = (): void => signal.removeEventListener('abort', onAbort);
    socket.on('error', (error) => {
      done();
      reject(error);
    });
    socket.once('connect', () => {
      done();
      resolve();
    });
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
  return socket;
}
