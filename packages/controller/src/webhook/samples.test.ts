import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { beforeAll, describe, expect, test } from '@jest/globals';
import { parseAllDocuments } from 'yaml';

import type { WebhookWorld } from '../../test/webhook-world.ts';
import { webhookWorld } from '../../test/webhook-world.ts';
import { field, text } from '../kube/decode/fields.ts';
import { compileMeshConfig } from '../translate/mesh-config.ts';

/** Everything that this repository shows is taken as it is, without a warning. */

const root = fileURLToPath(new URL('../../../../', import.meta.url));

function filesOf(folder: string, ending: string): readonly string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending))
    .map((name) => join(folder, name));
}

interface Shown {
  readonly file: string;
  readonly object: object;
}

function objectsIn(file: string, yaml: string): readonly Shown[] {
  return parseAllDocuments(yaml).flatMap((document): Shown[] => {
    const object: unknown = document.toJS();
    // A part of an object is shown where the rest of it does not matter.
    const isWhole = text(field(object, 'metadata', 'name')) !== '' && field(object, 'apiVersion');
    return isWhole ? [{ file, object: object as object }] : [];
  });
}

const manifests = filesOf('samples', '.yaml').flatMap((file) =>
  objectsIn(file, readFileSync(join(root, file), 'utf8')),
);
const pages = ['README.md', ...filesOf('docs', '.md'), ...filesOf('samples', '.md')];
const inPages = pages.flatMap((file) =>
  [...readFileSync(join(root, file), 'utf8').matchAll(/```yaml\n([^]*?)```/g)].flatMap(
    ([, yaml = '']) => objectsIn(file, yaml),
  ),
);

describe('what is shown', () => {
  let world: WebhookWorld;
  beforeAll(() => {
    world = webhookWorld();
    for (const { object } of manifests) world.put(object);
    // As the pages have the reader do it.
    const labels = { 'istio.io/use-waypoint': 'waypoint' };
    world.put({ kind: 'Namespace', metadata: { name: 'shop', labels } });
    world.put({
      kind: 'Gateway',
      metadata: { name: 'waypoint', namespace: 'shop' },
      spec: {
        gatewayClassName: 'istio-waypoint',
        listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
      },
    });
    const mesh = {
      extensionProviders: [
        {
          name: 'gate',
          envoyExtAuthzHttp: { service: 'gate.security.svc.cluster.local', port: 8000 },
        },
        { name: 'collector', zipkin: { service: 'zipkin.observe.svc.cluster.local', port: 9411 } },
      ],
    };
    const config = compileMeshConfig(mesh, 'ConfigMap');
    expect(config.problems).toEqual([]);
    world.collections.sources.meshConfig.set('istio-system/istio', config);
  });

  const named = ({ file, object }: Shown): [string, object] => [
    `${file}: ${text(field(object, 'kind'))} ${text(field(object, 'metadata', 'name'))}`,
    object,
  ];

  test.each([...manifests, ...inPages].map(named))('%s', (_name, object) => {
    expect(world.judge(object)).toEqual({ errors: [], warnings: [] });
  });

  test('is not nothing', () => {
    const kinds = new Set([...manifests, ...inPages].map(({ object }) => field(object, 'kind')));
    for (const kind of [
      'AuthorizationPolicy',
      'DestinationRule',
      'HTTPRoute',
      'RateLimitPolicy',
      'ServiceEntry',
      'Telemetry',
    ])
      expect(kinds).toContain(kind);
  });
});
