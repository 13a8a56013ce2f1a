import type { GrpcClient } from './grpc.ts';
import { createGrpcClient } from './grpc.ts';
import type { HttpClient } from './http.ts';
import { createHttpClient } from './http.ts';
import type { Reach, ReachOptions } from './reach.ts';
import { createReach } from './reach.ts';

/** With what the proxy itself asks others: authorizers, collectors of spans, servers of keys. */
export interface MeshClient {
  readonly http: HttpClient;
  readonly grpc: GrpcClient;
  readonly reach: Reach;
  close(): Promise<void>;
}

export function createMeshClient(options: ReachOptions): MeshClient {
  const reach = createReach(options);
  const http = createHttpClient(reach);
  const grpc = createGrpcClient(reach);
  return {
    http,
    grpc,
    reach,
    close: async () => {
      grpc.close();
      await http.close();
    },
  };
}
