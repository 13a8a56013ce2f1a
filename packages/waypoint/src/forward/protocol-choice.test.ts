import { expect, test } from '@jest/globals';
import { defaultPool } from '@ambit/api';
import type { PoolLimits, UpstreamTls } from '@ambit/api';
import { chooseProtocol } from './protocol-choice.ts';
import type { ProtocolFacts } from './protocol-choice.ts';

const simple: UpstreamTls = {
  mode: 'simple',
  subjectAltNames: [],
  source: { kind: 'files' },
  insecureSkipVerify: false,
};
type Facts = Omit<Partial<ProtocolFacts>, 'settings'> & {
  pool?: Partial<PoolLimits>;
  tls?: UpstreamTls;
};
const rows: readonly (readonly [string, Facts, string])[] = [
  ['a port of HTTP/1.1, a client of HTTP/2', { declared: 'http', client: 'HTTP/2' }, 'HTTP/1.1'],
  ['a port of HTTP/2, a client of HTTP/1.1', { declared: 'http2' }, 'HTTP/2'],
  ['a port that says nothing, a client of HTTP/2', { client: 'HTTP/2' }, 'HTTP/2'],
  ['a port that says nothing, a client of HTTP/1.1', {}, 'HTTP/1.1'],
  ['gRPC on a port of HTTP/1.1', { declared: 'http', client: 'HTTP/2', grpc: true }, 'HTTP/2'],
  ['UPGRADE', { declared: 'http', pool: { h2Upgrade: 'upgrade' } }, 'HTTP/2'],
  ['UPGRADE over TLS', { pool: { h2Upgrade: 'upgrade' }, tls: simple }, 'alpn'],
  ['TLS and no word', { declared: 'http', tls: simple }, 'alpn'],
  ['DO_NOT_UPGRADE over TLS', { pool: { h2Upgrade: 'do-not-upgrade' }, tls: simple }, 'HTTP/1.1'],
  [
    'DO_NOT_UPGRADE on a port of HTTP/2',
    { declared: 'http2', pool: { h2Upgrade: 'do-not-upgrade' } },
    'HTTP/2',
  ],
  [
    'a change of protocol with UPGRADE',
    { upgrade: true, pool: { h2Upgrade: 'upgrade' } },
    'HTTP/1.1',
  ],
  [
    'useClientProtocol on a port of HTTP/2',
    { declared: 'http2', pool: { useClientProtocol: true } },
    'HTTP/1.1',
  ],
  [
    'useClientProtocol with UPGRADE, HTTP/2',
    { client: 'HTTP/2', pool: { useClientProtocol: true, h2Upgrade: 'do-not-upgrade' } },
    'HTTP/2',
  ],
];

test.each(rows)('%s', (_what, { pool, tls, ...facts }, expected) => {
  const settings = { pool: { ...defaultPool, ...pool }, ...(tls === undefined ? {} : { tls }) };
  const given = { declared: undefined, client: 'HTTP/1.1', grpc: false, upgrade: false } as const;
  expect(chooseProtocol({ ...given, ...facts, settings })).toBe(expected);
});
