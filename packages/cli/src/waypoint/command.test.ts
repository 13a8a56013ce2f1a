import { expect, test } from '@jest/globals';
import yargs from 'yargs';
import type { Kube, KubeObject } from '../kube.ts';
import { waypointCommand } from './command.ts';

const api = '/apis/gateway.networking.k8s.io/v1';
const path = `${api}/namespaces/shop/gateways/waypoint`;
const shop = { metadata: { name: 'shop' } };
const gatewayClass = {
  metadata: { name: 'istio-waypoint', labels: { 'istio.io/waypoint-for': 'all' } },
};

function gateway(labels: Record<string, string> = {}, gatewayClassName = 'istio-waypoint') {
  const allowedRoutes = { namespaces: { from: 'All' } };
  const listener = { name: 'mesh', port: 15008, protocol: 'HBONE', allowedRoutes };
  return {
    metadata: { name: 'waypoint', namespace: 'shop', labels },
    spec: { gatewayClassName, listeners: [listener] },
  };
}

/** Runs the command on objects by their paths; gives what it says and what it writes. */
async function run(objects: Record<string, KubeObject>, ...args: string[]) {
  const all = new Map<string, KubeObject>(
    Object.entries({ '/api/v1/namespaces/shop': shop, ...objects }),
  );
  const written: unknown[] = [];
  const list: Kube['list'] = (at) =>
    Promise.resolve([...all].filter(([key]) => inside(key, at)).map(([, one]) => one));
  const kube: Kube = {
    namespace: 'shop',
    get: (at) => Promise.resolve(all.get(at)),
    list,
    listIfKnown: list,
    read: (at) => {
      const one = all.get(at);
      return Promise.resolve({ status: one === undefined ? 404 : 200, text: JSON.stringify(one) });
    },
    create: () => Promise.reject(new Error('not used')),
    apply: (at, object) => Promise.resolve(void written.push(['apply', at, object])),
    merge: (at, patch) => Promise.resolve(void written.push(['merge', at, patch])),
    remove: () => Promise.resolve(true),
  };
  const said: string[] = [];
  const output = { out: (text: string) => said.push(text), err: (text: string) => said.push(text) };
  const failed = await yargs(['waypoint', ...args])
    .command(waypointCommand({ output, connect: () => kube }))
    .fail(false)
    .exitProcess(false)
    .parseAsync()
    .then(() => '', String);
  return { text: said.join('\n') + failed, written };
}

/** Whether a path is one of an object of a collection, of one namespace or all. */
function inside(key: string, collection: string): boolean {
  const plain = key.replace(/\/namespaces\/[^/]+(?=\/[^/]+\/)/, '');
  return [key, plain].some((one) => one.slice(0, one.lastIndexOf('/')) === collection);
}

test.each([
  ['Service', '/api/v1/namespaces/shop/services'],
  ['ServiceAccount', '/api/v1/namespaces/shop/serviceaccounts'],
  ['Deployment', '/apis/apps/v1/namespaces/shop/deployments'],
])(
  'a %s of the name that belongs to no waypoint is told, and nothing is made',
  async (kind, at) => {
    const one = { metadata: { name: 'reviews', namespace: 'shop' } };
    const { text, written } = await run({ [`${at}/reviews`]: one }, 'apply', '--name', 'reviews');
    expect(text).toContain(`${kind} shop/reviews is there and belongs to no waypoint`);
    expect(written).toEqual([]);
  },
);

test('apply changes of a Gateway that is there nothing but what was asked for', async () => {
  const is = { 'istio.io/waypoint-for': 'service' };
  expect((await run({ [path]: gateway(is) }, 'apply', '--overwrite')).written).toEqual([]);
  const asked = await run({ [path]: gateway(is) }, 'apply', '--for', 'all', '--overwrite');
  expect(asked.written).toEqual([
    ['merge', path, { metadata: { labels: { 'istio.io/waypoint-for': 'all' } } }],
  ]);
  const without = await run({ [path]: gateway(is) }, 'apply', '--for', 'all');
  expect(without.text).toContain('has istio.io/waypoint-for=service already; give --overwrite');
  expect(without.written).toEqual([]);
  const other = await run({ [path]: gateway({}, 'nginx') }, 'apply', '--overwrite');
  expect(other.text).toContain('of class nginx');
  expect(other.written).toEqual([]);
});

test('what the class of waypoints says holds where the Gateway does not', async () => {
  const classes = { [`${api}/gatewayclasses/istio-waypoint`]: gatewayClass };
  const by = async (labels = {}) =>
    (await run({ [path]: gateway(labels), ...classes }, 'list')).text;
  expect(await by()).toMatch(/waypoint +default +all /);
  expect(await by({ 'istio.io/waypoint-for': 'workload' })).toMatch(/waypoint +default +workload /);
});

test('status tells of pods whether they refuse what comes from elsewhere, and why', async () => {
  const use = { 'istio.io/use-waypoint': 'waypoint' };
  const pod = (name: string, annotations = {}) => ({
    [`/api/v1/namespaces/shop/pods/${name}`]: {
      metadata: { name, namespace: 'shop', labels: { ...use, app: name }, annotations },
    },
  });
  const message = 'because of AuthorizationPolicy shop/p the workloads refuse';
  const objects = {
    [path]: gateway(),
    [`${api}/gatewayclasses/istio-waypoint`]: gatewayClass,
    '/api/v1/namespaces/shop/services/web': {
      metadata: { name: 'web', namespace: 'shop', labels: use },
      spec: { selector: { app: 'web' } },
      status: { conditions: [{ type: 'ambit.dev/WaypointRequired', status: 'True', message }] },
    },
    ...pod('web'),
    ...pod('free'),
    ...pod('open', { 'ambit.dev/bypass-waypoint': 'allow' }),
  };
  const { text } = await run(objects, 'status');
  expect(text).toMatch(/Pod +shop\/web +True +True .*because of AuthorizationPolicy shop\/p/);
  expect(text).toMatch(/Pod +shop\/free +True +False/);
  const targetRefs = [{ kind: 'Gateway', name: 'waypoint' }];
  const policies = {
    '/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies/g': {
      metadata: { name: 'g', namespace: 'shop' },
      spec: { targetRefs },
      status: { conditions: [{ type: 'WaypointAccepted', status: 'True' }] },
    },
  };
  const all = (await run({ ...objects, ...policies }, 'status')).text;
  expect(all).toMatch(/Pod +shop\/free +True +True .*AuthorizationPolicy shop\/g/);
  expect(all).toMatch(/Pod +shop\/open +True +False/);
});
