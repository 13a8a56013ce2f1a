import { afterEach, beforeEach, test } from '@jest/globals';
import { FakeKube } from '@ambit/testkit';

import type { Publisher } from '../src/ca/publish.ts';
import { startRootPublisher } from '../src/ca/publish.ts';
import { createSources } from '../src/collections/sources.ts';
import type { KubeClient } from '../src/kube/client.ts';
import { decodeNamespace } from '../src/kube/decode/namespace.ts';
import { decoded } from './records.ts';
import { clientOf, fastTimings, memoryLog, until } from './support.ts';

const configMaps = '/api/v1/configmaps';
const name = 'istio-ca-root-cert';

let fake: FakeKube;
let client: KubeClient;
let publisher: Publisher;
let beforeAnswer: () => Promise<void> = () => Promise.resolve();

beforeEach(async () => {
  fake = await FakeKube.start();
  client = clientOf(fake);
  const sources = createSources();
  publisher = startRootPublisher({
    client: {
      ...client,
      request: async (request) => {
        const answer = await client.request(request);
        if ((request.method ?? 'GET') !== 'GET') await beforeAnswer();
        return answer;
      },
    },
    gate: { isOpen: () => true, onOpen: () => undefined },
    sources,
    scope: { includes: () => true, namespaces: () => undefined, onChange: () => undefined },
    roots: () => ['right'],
    timings: { ...fastTimings, stallMs: 10_000 },
    log: memoryLog(),
  });
  sources.namespaces.set('shop', decoded(decodeNamespace, { metadata: { name: 'shop' } }));
});
afterEach(async () => {
  await publisher.close();
  client.close();
  await fake.close();
});

const roots = (): unknown =>
  (fake.get(configMaps, `shop/${name}`)?.['data'] as Record<string, unknown> | undefined)?.[
    'root-cert.pem'
  ];

function change(): void {
  fake.put(configMaps, {
    metadata: { name, namespace: 'shop' },
    data: { 'root-cert.pem': 'wrong' },
  });
}

test('roots that somebody changes are put back', async () => {
  await until(() => roots() === 'right', 'they are published');
  change();
  await until(() => roots() === 'right', 'they are put back');
});

test('also those that are changed before it is known that they were published', async () => {
  let changes = 0;
  beforeAnswer = async () => {
    changes += 1;
    if (changes > 1) return;
    change();
    // The watch tells of it before the answer is there.
    await new Promise((resolve) => setTimeout(resolve, 200));
  };
  await until(() => changes === 1, 'the first write');
  await until(() => roots() === 'wrong', 'somebody changes them');
  await until(() => roots() === 'right', 'they are put back');
});
