import type { TcpMatch, TcpRoute, TlsRoute, WeightedTarget } from '@ambit/api';
import { noChanges, parseCidr } from '@ambit/api';

import type { DestinationSpec, VirtualServiceSpec } from '../resources/virtual-service.ts';
import { arrivalsOf } from './open-port.ts';
import type { ActionWorld } from './virtual-service-action.ts';
import { compileTarget, weightOf } from './virtual-service-action.ts';
import type { SourceSpec } from './virtual-service-match.ts';
import { forMesh, readSource } from './virtual-service-match.ts';

type TlsSpecs = NonNullable<VirtualServiceSpec['tls']>;
type TcpSpecs = NonNullable<VirtualServiceSpec['tcp']>;
type Parts = Omit<ActionWorld, 'close'>;

/** A route of which no match can be understood matches nothing; one that names none takes everything. */
export function compileTcp(specs: TcpSpecs, name: string, parts: Parts): TcpRoute[] {
  return specs.flatMap((spec, index) => {
    const path = `spec.tcp[${index}]`;
    const written = spec.match ?? [];
    const matches = written.flatMap((one, at) => l4Match(one, `${path}.match[${at}]`, parts) ?? []);
    if (written.length > 0 && matches.length === 0) return [];
    return [
      { name, matches, targets: l4Targets(spec.route, `${path}.route`, asked(parts, matches)) },
    ];
  });
}

export function compileTls(specs: TlsSpecs, name: string, parts: Parts): TlsRoute[] {
  return specs.flatMap((spec, index) => {
    const path = `spec.tls[${index}]`;
    const written = spec.match ?? [];
    if (written.length === 0) parts.report(`${path}.match`, 'must name sniHosts; it never holds');
    const matches = written.flatMap((one, at) => {
      const matchPath = `${path}.match[${at}]`;
      const l4 = l4Match(one, matchPath, parts);
      const sniHosts = (one.sniHosts ?? []).map((host) => host.toLowerCase());
      if (sniHosts.length === 0) {
        parts.report(`${matchPath}.sniHosts`, 'must name a host; the match never holds');
      }
      return l4 === undefined || sniHosts.length === 0 ? [] : [{ ...l4, sniHosts }];
    });
    if (matches.length === 0) return [];
    return [
      { name, matches, targets: l4Targets(spec.route, `${path}.route`, asked(parts, matches)) },
    ];
  });
}

function asked(parts: Parts, matches: readonly TcpMatch[]): Parts {
  return { ...parts, arrivals: arrivalsOf(matches, parts.arrivals) };
}

interface L4MatchSpec extends SourceSpec {
  readonly destinationSubnets?: readonly string[];
  readonly gateways?: readonly string[];
}

function l4Match(spec: L4MatchSpec, path: string, parts: Parts): TcpMatch | undefined {
  if (!forMesh(spec.gateways)) return undefined;
  const { report } = parts;
  const source = readSource(spec, path, parts);
  const ranges = (spec.destinationSubnets ?? []).map((text, index) => {
    const cidr = parseCidr(text);
    if (!cidr.ok) report(`${path}.destinationSubnets[${index}]`, cidr.error.message);
    return cidr;
  });
  const good = ranges.flatMap((cidr) => (cidr.ok ? [cidr.value] : []));
  if (source === undefined || good.length < ranges.length) return undefined;
  return { ...source, destinationSubnets: good };
}

function l4Targets(
  routes: readonly { readonly destination?: DestinationSpec; readonly weight?: number }[] = [],
  path: string,
  parts: Parts,
): WeightedTarget[] {
  const targets = routes.map(({ destination, weight }, index) => ({
    weight: weightOf(weight, routes.length, `${path}[${index}]`, parts),
    target: compileTarget(
      destination,
      `${path}[${index}].destination`,
      parts,
      'connections are refused',
    ),
    request: noChanges,
    response: noChanges,
  }));
  if (targets.length === 0) parts.report(path, 'must name a destination; connections are refused');
  else if (targets.every(({ weight }) => weight === 0))
    parts.report(path, 'the weights sum to 0; connections are refused');
  return targets;
}
