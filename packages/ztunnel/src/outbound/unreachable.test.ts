import { expect, test } from '@jest/globals';
import type { SocketAddress } from '@ambit/api';
import { UnreachableHops } from './unreachable.ts';

const hop = { ip: '10.0.0.1', port: 15008 } as unknown as SocketAddress;
const other = { ip: '10.0.0.2', port: 15008 } as unknown as SocketAddress;

test('a hop is passed over for a while, and no other is', () => {
  const hops = new UnreachableHops(1_000);
  hops.note(hop, 0);
  expect([hops.has(hop, 999), hops.has(other, 999), hops.has(hop, 1_001)]).toEqual([
    true,
    false,
    false,
  ]);
});
