import { describe, expect, test } from '@jest/globals';
import type { Conflist } from './conflist.ts';
import {
  chained,
  chainingProblem,
  parseConflist,
  pluginType,
  restored,
  unchained,
} from './conflist.ts';

const entry = { type: pluginType, agentSocket: '/run/agent.sock' };

function read(text: string): Conflist {
  const conflist = parseConflist(text);
  if (!conflist.ok) throw new Error(conflist.error);
  return conflist.value;
}

/** Configurations of the shapes that common network plugins write. */
const shapes: readonly [string, object, readonly string[]][] = [
  [
    'a bridge with port mappings',
    {
      cniVersion: '1.0.0',
      name: 'bridge',
      plugins: [
        {
          type: 'bridge',
          bridge: 'cni0',
          ipam: { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/24' }]] },
        },
        { type: 'portmap', capabilities: { portMappings: true } },
      ],
    },
    ['bridge', 'portmap'],
  ],
  ['a single ptp', { cniVersion: '0.4.0', name: 'ptp', type: 'ptp', mtu: 1400 }, ['ptp']],
  [
    'a delegating overlay',
    {
      name: 'cbr0',
      cniVersion: '0.3.1',
      plugins: [
        { type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } },
        { type: 'portmap', capabilities: { portMappings: true } },
      ],
    },
    ['flannel', 'portmap'],
  ],
  [
    'a routed network with bandwidth limits',
    {
      name: 'k8s-pod-network',
      cniVersion: '0.3.1',
      plugins: [
        { type: 'calico', policy: { type: 'k8s' }, ipam: { type: 'calico-ipam' } },
        { type: 'bandwidth', capabilities: { bandwidth: true } },
        { type: 'portmap', snat: true, capabilities: { portMappings: true } },
      ],
    },
    ['calico', 'bandwidth', 'portmap'],
  ],
  [
    'an eBPF network',
    {
      cniVersion: '0.3.1',
      name: 'cilium',
      plugins: [{ type: 'cilium-cni', 'enable-debug': false }],
    },
    ['cilium-cni'],
  ],
];

describe.each(shapes)('%s', (_, config, types) => {
  const conflist = read(JSON.stringify(config));

  test('gets the plugin last, once, however often it is chained', () => {
    const once = chained(conflist, entry);
    expect(once.plugins.map(({ type }) => type)).toEqual([...types, pluginType]);
    expect(chained(once, entry)).toEqual(once);
  });

  test('is what it was after unchaining', () => {
    expect(unchained(chained(conflist, entry))).toEqual(conflist);
  });

  test('keeps everything else', () => {
    const rest = { ...chained(conflist, entry), plugins: undefined };
    expect(rest).toEqual({
      name: conflist.name,
      cniVersion: (config as { cniVersion: string }).cniVersion,
    });
  });
});

test('a chained entry with other settings is replaced', () => {
  const old = chained(
    { name: 'n', plugins: [{ type: 'ptp' }] },
    { type: pluginType, agentSocket: '/old' },
  );
  expect(chained(old, entry).plugins).toEqual([{ type: 'ptp' }, entry]);
});

test('a chained entry remembers the single plugin that stood there, which comes back', () => {
  const single = { cniVersion: '0.3.1', name: 'n', type: 'ptp', mtu: 1400 };
  const list = read(JSON.stringify(single));
  const once = chained(list, { ...entry, replaces: '10-n.conf' });
  const again = chained(once, { ...entry, agentSocket: '/new' });
  expect(again.plugins[1]).toEqual({ ...entry, agentSocket: '/new', replaces: '10-n.conf' });
  expect(restored(again)).toEqual({ file: '10-n.conf', content: single });
  expect(restored(chained(list, entry))).toEqual({ content: list });
});

test.each([
  ['0.3.0', undefined],
  ['0.3.1', undefined],
  ['1.1.0', undefined],
  ['0.2.0', 'chaining begins with 0.3.0'],
  [undefined, 'names no cniVersion'],
])('cniVersion %s: %s', (cniVersion, problem) => {
  const found = chainingProblem({
    ...(cniVersion === undefined ? {} : { cniVersion }),
    name: 'n',
    plugins: [{ type: 'ptp' }],
  });
  if (problem === undefined) expect(found).toBeUndefined();
  else expect(found).toContain(problem);
});

test.each([
  ['', 'it is empty'],
  ['{', 'no JSON'],
  ['7', 'no object'],
  ['[]', 'no name'],
  ['{"name":"x"}', 'neither plugins nor a type'],
  ['{"name":"x","plugins":[]}', 'no list'],
  ['{"plugins":[{"type":"a"}]}', 'no name'],
  ['{"name":"x","plugins":[{}]}', 'no type'],
])('no configuration: %s', (text, why) => {
  expect(parseConflist(text)).toEqual({ ok: false, error: expect.stringContaining(why) });
});
