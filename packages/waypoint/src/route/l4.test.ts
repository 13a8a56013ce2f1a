import { describe, expect, test } from '@jest/globals';
import type { RouteTable, WeightedTarget } from '@ambit/api';
import { decodeRouteTable, decodeWith, noChanges, parseCidr } from '@ambit/api';
import type { ConnectionFacts } from './l4.ts';
import { connectionTargets } from './l4.ts';

const target = (why: string) => ({
  weight: 1,
  target: { kind: 'missing', why },
  request: noChanges,
  response: noChanges,
});
const cidr = parseCidr('10.1.0.0/16');
const range = cidr.ok ? cidr.value : undefined;
const any = { sourceLabels: [], destinationSubnets: [] };

function table(tls: object[], tcp: object[] = []): RouteTable {
  const named = (route: object, index: number): object => ({
    name: `${index}`,
    targets: [target(`${index}`)],
    ...route,
  });
  const decoded = decodeWith(decodeRouteTable, {
    service: 'a/b.a.svc.cluster.local',
    http: [],
    tls: tls.map(named),
    tcp: tcp.map(named),
  });
  if (!decoded.ok) throw new TypeError(decoded.error.message);
  return decoded.value;
}

const facts = (more: Partial<Record<keyof ConnectionFacts, unknown>> = {}): ConnectionFacts =>
  ({
    port: 443,
    sourceNamespace: 'clients',
    sourceLabels: [],
    destinations: ['10.0.0.1'],
    sni: undefined,
    ...more,
  }) as ConnectionFacts;

function chosen(targets: readonly WeightedTarget[] | undefined): string | undefined {
  if (targets === undefined) return 'service';
  const [first] = targets;
  return first?.target.kind === 'missing' ? first.target.why : undefined;
}

describe('connections of TLS', () => {
  const names = table(
    [
      { matches: [{ ...any, sniHosts: ['a.example'] }] },
      { matches: [{ ...any, sniHosts: ['*.example'], port: 443 }] },
    ],
    [{ matches: [{ ...any, port: 9000 }] }],
  );
  test.each([
    ['its name', { sni: 'A.example' }, '0'],
    ['a name below a star', { sni: 'x.y.example' }, '1'],
    ['another name: refused', { sni: 'other' }, undefined],
    ['no name: refused', { sni: '' }, undefined],
    ['no TLS and no route of such connections: the service', {}, 'service'],
  ])('%s', (_name, more, expected) => {
    expect(chosen(connectionTargets(names, facts(more)))).toBe(expected);
  });

  test('on a port that no route of TLS speaks of, those of TCP are asked', () => {
    const { tls, tcp } = names;
    const only443 = { tls: tls.slice(1), tcp };
    expect(chosen(connectionTargets(only443, facts({ sni: 'x', port: 9000 })))).toBe('0');
    expect(chosen(connectionTargets(only443, facts({ sni: 'x', port: 80 })))).toBe('service');
  });
});

describe('connections', () => {
  const routes = table(
    [],
    [
      { matches: [{ ...any, sourceNamespace: 'clients', destinationSubnets: [range] }] },
      { matches: [{ ...any, port: 9000 }] },
    ],
  );
  test.each([
    ['to a range', { destinations: ['10.1.2.3'] }, '0'],
    ['to no range, where a route speaks of the client: refused', {}, undefined],
    ['of a port', { port: 9000 }, '1'],
    ['of nobody whom a route speaks of: the service', { sourceNamespace: 'x' }, 'service'],
  ])('%s', (_name, more, expected) => {
    expect(chosen(connectionTargets(routes, facts(more)))).toBe(expected);
  });

  test('a route without a match takes all', () => {
    expect(chosen(connectionTargets(table([], [{ matches: [] }]), facts()))).toBe('0');
  });
});
