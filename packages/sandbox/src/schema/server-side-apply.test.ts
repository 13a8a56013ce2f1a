import { describe, expect, test } from '@jest/globals';
import { builtinSchema } from './builtin.ts';
import type { ApplyRejected, ApplyRequest } from './server-side-apply.ts';
import { serverSideApply, trackUpdate } from './server-side-apply.ts';
import type { JsonObject, ManagedFieldsEntry } from './types.ts';

const schema = builtinSchema('apps', 'v1', 'Deployment');
const now = '2026-01-02T03:04:05Z';

function deployment(spec: JsonObject, metadata: JsonObject = {}): JsonObject {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web', ...metadata },
    spec,
  };
}

function attempt(
  live: JsonObject | undefined,
  applied: JsonObject,
  more: Partial<ApplyRequest> = {},
): ReturnType<typeof serverSideApply> {
  return serverSideApply({
    live,
    applied,
    manager: 'a',
    force: false,
    schema,
    apiVersion: 'apps/v1',
    now,
    ...more,
  });
}

function apply(
  live: JsonObject | undefined,
  applied: JsonObject,
  more: Partial<ApplyRequest> = {},
): JsonObject {
  const result = attempt(live, applied, more);
  if (!result.ok) throw new TypeError(result.error.message);
  return result.value;
}

function refusal(
  live: JsonObject,
  applied: JsonObject,
  more: Partial<ApplyRequest>,
): ApplyRejected {
  const result = attempt(live, applied, more);
  if (result.ok) throw new TypeError('the apply was let through');
  return result.error;
}

function lines(object: JsonObject): ManagedFieldsEntry[] {
  return ((object['metadata'] as JsonObject)['managedFields'] ?? []) as ManagedFieldsEntry[];
}

function owned(object: JsonObject, manager: string): unknown {
  return lines(object).find((line) => line.manager === manager)?.fieldsV1;
}

function containers(...list: JsonObject[]): JsonObject {
  return { template: { spec: { containers: list } } };
}

describe('serverSideApply', () => {
  test('creating: the applier owns what it wrote, not the name', () => {
    const made = apply(
      undefined,
      deployment({ replicas: 2, ...containers({ name: 'c', image: 'i' }) }),
    );
    expect(lines(made)).toEqual([
      {
        manager: 'a',
        operation: 'Apply',
        apiVersion: 'apps/v1',
        time: now,
        fieldsType: 'FieldsV1',
        fieldsV1: {
          'f:spec': {
            'f:replicas': {},
            'f:template': {
              'f:spec': {
                'f:containers': { 'k:{"name":"c"}': { '.': {}, 'f:image': {}, 'f:name': {} } },
              },
            },
          },
        },
      },
    ]);
  });

  test('applying the same again changes nothing, not even the time', () => {
    const made = apply(undefined, deployment({ replicas: 2 }));
    expect(apply(made, deployment({ replicas: 2 }), { now: '2027-01-01T00:00:00Z' })).toEqual(made);
  });

  test('a field no longer applied is removed, its own value may change', () => {
    const made = apply(undefined, deployment({ replicas: 2, paused: true }));
    expect(apply(made, deployment({ replicas: 3 }))['spec']).toEqual({ replicas: 3 });
  });

  test('another manager with another value is a conflict with the message kubectl shows', () => {
    const made = apply(undefined, deployment({ replicas: 2 }));
    const error = refusal(made, deployment({ replicas: 3 }), { manager: 'b' });
    expect(error.status).toBe(409);
    expect(error.message).toBe('Apply failed with 1 conflict: conflict with "a": .spec.replicas');
  });

  test('a conflict with an updater names its version, and several come as a list', () => {
    const live = trackUpdate({
      after: deployment({ replicas: 1, ...containers({ name: 'c', image: 'i' }) }),
      manager: 'kubectl-edit',
      schema,
      apiVersion: 'apps/v1',
      now,
    });
    const wanted = deployment({ replicas: 2, ...containers({ name: 'c', image: 'j' }) });
    const error = refusal(live, wanted, { manager: 'b' });
    expect(error.message).toBe(
      'Apply failed with 2 conflicts: conflicts with "kubectl-edit" using apps/v1:\n- .spec.replicas\n- .spec.template.spec.containers[name="c"].image',
    );
    expect(error.conflicts[1]?.message).toBe('conflict with "kubectl-edit" using apps/v1');
  });

  test('force takes the field over', () => {
    const made = apply(undefined, deployment({ replicas: 2, paused: true }));
    const taken = apply(made, deployment({ replicas: 3 }), { manager: 'b', force: true });
    expect(taken['spec']).toEqual({ replicas: 3, paused: true });
    expect(owned(taken, 'a')).toEqual({ 'f:spec': { 'f:paused': {} } });
    expect(owned(taken, 'b')).toEqual({ 'f:spec': { 'f:replicas': {} } });
  });

  test('the same value is shared; giving it up leaves it with the other owner', () => {
    const made = apply(undefined, deployment({ replicas: 2 }));
    const shared = apply(made, deployment({ replicas: 2 }), { manager: 'b' });
    expect(owned(shared, 'a')).toEqual(owned(shared, 'b'));
    const nothing = { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'web' } };
    const left = apply(shared, nothing, { manager: 'a' });
    expect(left['spec']).toEqual({ replicas: 2 });
    expect(lines(left).map((line) => line.manager)).toEqual(['b']);
  });

  test('items of a keyed list belong to those who applied them', () => {
    const made = apply(undefined, deployment(containers({ name: 'c', image: 'i' })));
    const both = apply(made, deployment(containers({ name: 'd', image: 'j' })), { manager: 'b' });
    const images = (object: JsonObject): unknown =>
      (object['spec'] as { template?: { spec: { containers: unknown } } }).template?.spec
        .containers;
    expect(images(both)).toEqual([
      { name: 'c', image: 'i' },
      { name: 'd', image: 'j' },
    ]);
    const left = apply(both, deployment(containers({ name: 'e', image: 'k' })), { manager: 'a' });
    expect(images(left)).toEqual([
      { name: 'd', image: 'j' },
      { name: 'e', image: 'k' },
    ]);
  });

  test('a default is part of a key: ports by number and protocol', () => {
    const port = { containerPort: 80 };
    const made = apply(undefined, deployment(containers({ name: 'c', ports: [port] })));
    expect(JSON.stringify(owned(made, 'a'))).toContain(
      'k:{\\"containerPort\\":80,\\"protocol\\":\\"TCP\\"}',
    );
  });

  test('an atomic list is replaced as a whole and conflicts as a whole', () => {
    const made = apply(undefined, deployment(containers({ name: 'c', args: ['x', 'y'] })));
    const wanted = deployment(containers({ name: 'c', args: ['z'] }));
    const error = refusal(made, wanted, { manager: 'b' });
    expect(error.conflicts.map((one) => one.field)).toEqual([
      '.spec.template.spec.containers[name="c"].args',
    ]);
    expect(JSON.stringify(apply(made, wanted, { manager: 'b', force: true })['spec'])).toContain(
      '["z"]',
    );
  });

  test('labels merge key by key, and an atomic map does not', () => {
    const made = apply(undefined, deployment({}, { labels: { a: '1' } }));
    const both = apply(made, deployment({}, { labels: { b: '2' } }), { manager: 'b' });
    expect((both['metadata'] as JsonObject)['labels']).toEqual({ a: '1', b: '2' });
    const selecting = apply(undefined, deployment({ selector: { matchLabels: { a: '1' } } }));
    const error = refusal(selecting, deployment({ selector: { matchLabels: { b: '1' } } }), {
      manager: 'b',
    });
    expect(error.conflicts.map((one) => one.field)).toEqual(['.spec.selector']);
  });

  test('the status subresource has a line of its own', () => {
    const made = apply(undefined, deployment({ replicas: 1 }));
    const status = { ...deployment({}), status: { replicas: 1 } };
    const both = apply(made, status, { subresource: 'status', manager: 'a' });
    expect(lines(both).map((line) => line.subresource)).toEqual([undefined, 'status']);
    expect(both['spec']).toEqual({ replicas: 1 });
  });

  test('an object without managers is not taken silently', () => {
    const error = refusal(deployment({ replicas: 1 }), deployment({ replicas: 2 }), {});
    expect(error.message).toContain(
      'conflict with "before-first-apply" using apps/v1: .spec.replicas',
    );
  });

  test.each([
    [deployment({}, { managedFields: [{}] }), 'metadata.managedFields must be nil'],
    [deployment(containers({ image: 'x' })), 'omits key field "name"'],
    [
      deployment(containers({ name: 'x' }, { name: 'x' })),
      'duplicate entries for key {"name":"x"}',
    ],
  ])('refuses %j', (applied, message) => {
    const result = attempt(undefined, applied);
    expect(result.ok ? '' : result.error.message).toContain(message);
  });
});

describe('trackUpdate', () => {
  const update = (before: JsonObject | undefined, after: JsonObject, manager: string): JsonObject =>
    trackUpdate({ before, after, manager, schema, apiVersion: 'apps/v1', now });

  test('what an update changes it owns, and an applier loses it', () => {
    const made = apply(undefined, deployment({ replicas: 2, paused: true }));
    const after = { ...made, spec: { replicas: 5, paused: true } };
    const updated = update(made, after, 'kubectl-scale');
    expect(owned(updated, 'a')).toEqual({ 'f:spec': { 'f:paused': {} } });
    expect(owned(updated, 'kubectl-scale')).toEqual({ 'f:spec': { 'f:replicas': {} } });
  });
  test('a second update of one manager adds to its line', () => {
    const first = update(undefined, deployment({ replicas: 1 }), 'm');
    const second = update(first, { ...first, spec: { replicas: 1, paused: true } }, 'm');
    expect(lines(second)).toHaveLength(1);
    expect(owned(second, 'm')).toEqual({ 'f:spec': { 'f:paused': {}, 'f:replicas': {} } });
  });
  test('a removed field is nobody’s, and a manager of nothing is gone', () => {
    const first = update(undefined, deployment({ paused: true }), 'm');
    expect(lines(update(first, { ...first, spec: {} }, 'n'))).toEqual([]);
  });
  test('a stranger may write as many managers as it likes: ten updaters stay', () => {
    let live = update(undefined, deployment({ replicas: 0 }, { labels: {} }), 'm');
    for (let index = 0; index < 40; index += 1) {
      const metadata = live['metadata'] as JsonObject;
      const labels = { ...(metadata['labels'] as JsonObject), [`l${index}`]: 'x' };
      live = update(live, { ...live, metadata: { ...metadata, labels } }, `m${index}`);
    }
    expect(lines(live).length).toBeLessThanOrEqual(10);
    expect(lines(live).map((line) => line.manager)).toContain('ancient-changes');
  });
});
