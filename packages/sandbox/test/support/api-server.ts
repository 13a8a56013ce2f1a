import type { ApiServer, ApiServerOptions } from '../../src/apiserver/index.ts';
import { createApiServer } from '../../src/apiserver/index.ts';
import { makeApiCertificates } from '../../src/pki.ts';

export interface TestApi {
  readonly api: ApiServer;
  readonly ca: string;
  readonly server: string;
  readonly errors: unknown[];
}

/** A real API server on a free port of loopback, with the namespace `default`. */
export async function startTestApi(options: Partial<ApiServerOptions> = {}): Promise<TestApi> {
  const { ca, cert, key } = await makeApiCertificates(['localhost'], ['127.0.0.1'], Date.now());
  const errors: unknown[] = [];
  const api = await createApiServer({
    tls: { cert, key },
    listen: [{ host: '127.0.0.1', port: 0 }],
    onError: (error) => errors.push(error),
    ...options,
  });
  const namespaces = { group: '', resource: 'namespaces' };
  if (api.store.get(namespaces, undefined, 'default') === undefined) {
    api.store.create(namespaces, {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: 'default' },
    });
  }
  const [address] = api.addresses;
  const port = address !== undefined && 'port' in address ? address.port : 0;
  return { api, ca, server: `https://127.0.0.1:${port}`, errors };
}
