import type { AddressInfo, Server } from 'node:net';

/** Where a server is to listen; on every address of the machine where no host is named. */
export interface ListenAt {
  readonly host?: string | undefined;
  /** 0 for any that is free. */
  readonly port: number;
}

/** Resolves once the server listens, with where it does; rejects where it cannot. */
export function listening(server: Server, { host, port }: ListenAt): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ port, ...(host === undefined ? {} : { host }) }, () => {
      server.off('error', reject);
      resolve(server.address() as AddressInfo);
    });
  });
}
