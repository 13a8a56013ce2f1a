import type { AccessEntry, Read } from './access-entry.ts';
import { given } from './access-entry.ts';

type AddressKey =
  'upstreamHost' | 'upstreamLocalAddress' | 'downstreamLocalAddress' | 'downstreamRemoteAddress';

/** Nobody stands between us and who connects: its direct address is its address. */
const sides: readonly (readonly [string, AddressKey])[] = [
  ['UPSTREAM_LOCAL', 'upstreamLocalAddress'],
  ['UPSTREAM_REMOTE', 'upstreamHost'],
  ['DOWNSTREAM_LOCAL', 'downstreamLocalAddress'],
  ['DOWNSTREAM_DIRECT_LOCAL', 'downstreamLocalAddress'],
  ['DOWNSTREAM_REMOTE', 'downstreamRemoteAddress'],
  ['DOWNSTREAM_DIRECT_REMOTE', 'downstreamRemoteAddress'],
];

/** Envoy's operators for an address and its halves: the port stays a number in JSON. */
export const addressFields: readonly (readonly [string, Read])[] = sides.flatMap(
  ([name, key]): (readonly [string, Read])[] => [
    [`${name}_ADDRESS`, (entry) => given(entry[key])],
    [`${name}_ADDRESS_WITHOUT_PORT`, (entry) => halves(entry, key)?.address],
    [`${name}_PORT`, (entry) => halves(entry, key)?.port],
  ],
);

function halves(
  entry: Pick<AccessEntry, AddressKey>,
  key: AddressKey,
): { address: string; port: number } | undefined {
  const found = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(entry[key] ?? '');
  const address = found?.[1] ?? found?.[2];
  return address === undefined ? undefined : { address, port: Number(found?.[3]) };
}
