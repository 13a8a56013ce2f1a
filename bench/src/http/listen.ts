import type { AddressInfo, Server } from 'node:net';

/** Ports on which a program of the benchmark serves HTTP/1.1 and HTTP/2. */
export interface TwoPorts {
  readonly http1: number;
  readonly http2: number;
}

/** Listens on `port` and the next one, or on any two for 0; tells a parent process, and ends with it. */
export function listenOnTwo(http1: Server, http2: Server, port: number): void {
  const portOf = (server: Server): number => (server.address() as AddressInfo).port;
  http1.listen(port, '::', () => {
    http2.listen(port === 0 ? 0 : port + 1, '::', () => {
      process.send?.({ http1: portOf(http1), http2: portOf(http2) } satisfies TwoPorts);
    });
  });
  process.on('disconnect', () => process.exit(0));
}
