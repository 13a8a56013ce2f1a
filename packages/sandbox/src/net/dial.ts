import { connect, type Socket } from 'node:net';

/** Connects from the caller's own network namespace, until `signal` aborts. */
export async function dial(host: string, port: number, signal: AbortSignal): Promise<Socket> {
  return untilConnected(connect({ host, port }), signal);
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
