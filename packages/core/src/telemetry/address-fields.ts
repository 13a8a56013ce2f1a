/** The addresses of a request, each as `address:port`, an IPv6 address in brackets. */
interface Addresses {
  readonly upstreamLocalAddress: string | undefined;
  readonly downstreamLocalAddress: string | undefined;
  readonly downstreamRemoteAddress: string | undefined;
}

type ReadAddress = (entry: Addresses) => string | number | undefined;

const sides: readonly (readonly [string, keyof Addresses])[] = [
  ['UPSTREAM_LOCAL', 'upstreamLocalAddress'],
  ['DOWNSTREAM_LOCAL', 'downstreamLocalAddress'],
  ['DOWNSTREAM_REMOTE', 'downstreamRemoteAddress'],
];

/** Envoy's operators for one half of an address: its number stays one in JSON. */
export const addressFields: readonly (readonly [string, ReadAddress])[] = sides.flatMap(
  ([name, key]): (readonly [string, ReadAddress])[] => [
    [`${name}_ADDRESS_WITHOUT_PORT`, (entry) => halves(entry[key])?.address],
    [`${name}_PORT`, (entry) => halves(entry[key])?.port],
  ],
);

function halves(text: string | undefined): { address: string; port: number } | undefined {
  const found = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text ?? '');
  const address = found?.[1] ?? found?.[2];
  return address === undefined ? undefined : { address, port: Number(found?.[3]) };
}
