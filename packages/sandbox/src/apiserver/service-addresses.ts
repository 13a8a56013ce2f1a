import { ApiError, invalid, invalidValue } from './errors.ts';
import type { JsonObject, KubeObject } from './object.ts';
import { objectAt, objectsAt, stringAt, stringsAt } from './object.ts';
import type { ResourceStore } from './resource-store.ts';

type Family = 'IPv4' | 'IPv6';

/** The ranges Service addresses come from; the first ten of each are kept for fixed ones. */
export const serviceCidrs: Readonly<Record<Family, string>> = {
  IPv4: '10.96.0.0/16',
  IPv6: 'fd00:10:96::/112',
};

const firstFree = 11;
const lastFree = 65_533;
const nodePorts = { first: 30_000, last: 32_767 };

/** Fills `clusterIP(s)`, `ipFamilies`, `ipFamilyPolicy` and node ports; keeps what the Service already has. */
export function assignClusterAddresses(
  service: KubeObject,
  before: KubeObject | undefined,
  store: ResourceStore,
): void {
  const spec = objectAt(service, 'spec');
  const old = objectAt(before, 'spec');
  if (spec['type'] === 'ExternalName') {
    for (const field of ['clusterIP', 'clusterIPs', 'ipFamilies', 'ipFamilyPolicy'])
      Reflect.deleteProperty(spec, field);
    return;
  }
  if (old['type'] !== 'ExternalName') carryOver(spec, old);
  const families = chooseFamilies(service, spec);
  spec['ipFamilies'] = families;
  spec['ipFamilyPolicy'] ??= families.length > 1 ? 'PreferDualStack' : 'SingleStack';
  if (spec['clusterIP'] === 'None') {
    spec['clusterIPs'] = ['None'];
    return;
  }
  const used = usedAddresses(service, store);
  const asked = [stringAt(spec, 'clusterIP') ?? '', ...stringsAt(spec, 'clusterIPs').slice(1)];
  const addresses = families.map((family, index) => {
    const address = asked[index] ?? '';
    if (address === '') return freeAddress(family, used);
    checkAsked(service, family, address, used);
    return address;
  });
  spec['clusterIP'] = addresses[0];
  spec['clusterIPs'] = addresses;
  assignNodePorts(spec, store);
}

function carryOver(spec: JsonObject, old: JsonObject): void {
  for (const field of ['clusterIP', 'ipFamilyPolicy']) {
    if ((spec[field] ?? '') === '' && old[field] !== undefined) spec[field] = old[field];
  }
  const sameFirst = spec['clusterIP'] === old['clusterIP'];
  for (const field of ['clusterIPs', 'ipFamilies']) {
    if (spec[field] === undefined && sameFirst && old[field] !== undefined)
      spec[field] = structuredClone(old[field]);
  }
  const oldPorts = objectsAt(old, 'ports');
  for (const port of objectsAt(spec, 'ports')) {
    const same = oldPorts.find(
      (one) => one['port'] === port['port'] && one['protocol'] === port['protocol'],
    );
    if (same?.['nodePort'] !== undefined && spec['type'] !== 'ClusterIP')
      port['nodePort'] ??= same['nodePort'];
  }
}

function chooseFamilies(service: KubeObject, spec: JsonObject): Family[] {
  const given = stringsAt(spec, 'ipFamilies');
  const bad = given.find((family) => family !== 'IPv4' && family !== 'IPv6');
  if (bad !== undefined) {
    throw invalid({ group: '', kind: 'Service' }, service.metadata.name, [
      invalidValue('spec.ipFamilies', bad, 'must be IPv4 or IPv6'),
    ]);
  }
  const asked = stringAt(spec, 'clusterIP') ?? '';
  const first = (given[0] as Family | undefined) ?? (asked.includes(':') ? 'IPv6' : 'IPv4');
  const policy = spec['ipFamilyPolicy'] ?? 'SingleStack';
  if (policy === 'SingleStack' && given.length < 2) return [first];
  if (policy === 'SingleStack' && spec['ipFamilyPolicy'] === 'SingleStack') return [first];
  return [first, first === 'IPv4' ? 'IPv6' : 'IPv4'];
}

function usedAddresses(service: KubeObject, store: ResourceStore): Set<string> {
  const others = store
    .list({ group: '', resource: 'services' })
    .items.filter(
      ({ metadata }) =>
        metadata.name !== service.metadata.name ||
        metadata.namespace !== service.metadata.namespace,
    );
  return new Set(others.flatMap((one) => stringsAt(one, 'spec', 'clusterIPs')));
}

function freeAddress(family: Family, used: ReadonlySet<string>): string {
  for (let host = firstFree; host <= lastFree; host++) {
    const address =
      family === 'IPv4' ? `10.96.${host >> 8}.${host & 255}` : `fd00:10:96::${host.toString(16)}`;
    if (!used.has(address)) return address;
  }
  throw new ApiError(
    500,
    'InternalError',
    `no free ${family} address is left in ${serviceCidrs[family]}: delete Services that are not needed`,
  );
}

function checkAsked(
  service: KubeObject,
  family: Family,
  address: string,
  used: ReadonlySet<string>,
): void {
  const inRange = family === 'IPv4' ? /^10\.96\.\d{1,3}\.\d{1,3}$/ : /^fd00:10:96::[0-9a-f]{1,4}$/;
  const why = !inRange.test(address)
    ? `failed to allocate IP ${address}: the provided IP is not in the valid range ${serviceCidrs[family]}`
    : used.has(address)
      ? `failed to allocate IP ${address}: provided IP is already allocated`
      : undefined;
  if (why === undefined) return;
  throw invalid({ group: '', kind: 'Service' }, service.metadata.name, [
    invalidValue('spec.clusterIPs', [address], why),
  ]);
}

function assignNodePorts(spec: JsonObject, store: ResourceStore): void {
  if (spec['type'] !== 'NodePort' && spec['type'] !== 'LoadBalancer') return;
  const used = new Set(
    store
      .list({ group: '', resource: 'services' })
      .items.flatMap((service) =>
        objectsAt(service, 'spec', 'ports').map((port) => port['nodePort']),
      ),
  );
  for (const port of objectsAt(spec, 'ports')) {
    if (typeof port['nodePort'] === 'number' && port['nodePort'] !== 0) continue;
    let candidate = nodePorts.first;
    while (used.has(candidate)) candidate++;
    if (candidate > nodePorts.last) {
      throw new ApiError(
        500,
        'InternalError',
        'no free node port is left: delete Services of type NodePort',
      );
    }
    used.add(candidate);
    port['nodePort'] = candidate;
  }
}
