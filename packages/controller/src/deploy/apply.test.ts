import { expect, test } from '@jest/globals';

import type { Standing } from './apply.ts';
import { inTheWay } from './apply.ts';

const managed = { 'gateway.istio.io/managed': 'ambit.dev-mesh-controller' };
const owner = (uid: string, kind = 'Gateway') => ({
  apiVersion: 'gateway.networking.k8s.io/v1',
  kind,
  name: 'reviews',
  uid,
});

function standing(found: unknown, kind = 'Service'): Standing {
  const metadata = { name: 'reviews', namespace: 'shop', labels: {}, ownerReferences: [] };
  const object = { apiVersion: 'v1', kind, metadata };
  return { wanted: { collection: '/api/v1/namespaces/shop/services', object }, found };
}

test.each([
  ['nothing', undefined, false],
  ['its own', { metadata: { labels: managed, ownerReferences: [owner('u')] } }, false],
  ['one that nobody owns', { metadata: {} }, true],
  ['one that only has our label', { metadata: { labels: managed } }, true],
  ['one without our label', { metadata: { ownerReferences: [owner('u')] } }, true],
  [
    'one of an earlier Gateway',
    { metadata: { labels: managed, ownerReferences: [owner('v')] } },
    true,
  ],
  [
    'one of another kind',
    { metadata: { labels: managed, ownerReferences: [owner('u', 'Job')] } },
    true,
  ],
])('in the way of a Gateway: %s', (_name, found, is) => {
  expect(inTheWay([standing(found)], 'u')).toEqual(is ? ['Service shop/reviews'] : []);
});

test.each([
  ['that Istio made for it', 'istio.io-mesh-controller', 'u', false],
  ['that Istio made for an earlier one', 'istio.io-mesh-controller', 'v', true],
  ['that another made for it', 'other', 'u', true],
])('a ServiceAccount %s', (_name, manager, uid, is) => {
  const labels = { 'gateway.istio.io/managed': manager };
  const found = { metadata: { labels, ownerReferences: [owner(uid)] } };
  const inWay = (kind: string) => inTheWay([standing(found, kind)], 'u');
  expect(inWay('ServiceAccount')).toEqual(is ? ['ServiceAccount shop/reviews'] : []);
  for (const kind of ['Service', 'Deployment'])
    expect(inWay(kind)).toEqual([`${kind} shop/reviews`]);
});
