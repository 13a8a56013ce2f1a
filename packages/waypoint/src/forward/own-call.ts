import type { SpiffeIdentity } from '@ambit/api';
import type { Asked } from './endpoint.ts';
import type { DeclaredHttp } from './protocol-choice.ts';

/** What the proxy wants a connection for when it asks a service itself. */
export function ownCall(
  identity: SpiffeIdentity,
  { declared }: { readonly declared: DeclaredHttp },
  authority: string,
): Asked {
  return {
    client: { peer: identity, source: undefined, local: undefined, authority: '' },
    protocol: declared === 'http2' ? 'HTTP/2' : 'HTTP/1.1',
    authority,
  };
}
