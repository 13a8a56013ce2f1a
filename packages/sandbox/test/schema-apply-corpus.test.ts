import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { builtinSchema, own, serverSideApply, trackUpdate } from '../src/schema/index.ts';
import type { JsonObject, ManagedFieldsEntry } from '../src/schema/index.ts';

interface Step {
  readonly manager: string;
  readonly op: 'apply' | 'update';
  readonly force: boolean;
  readonly object: JsonObject;
  readonly conflicts: readonly string[];
}

/** What sigs.k8s.io/structured-merge-diff v6.3.0 made of the same steps with the schema of k8s.io/client-go v0.34.1. */
interface Recorded {
  readonly steps: readonly Step[];
  readonly object: JsonObject;
  readonly managers: Readonly<Record<string, JsonObject>>;
}

const file = new URL('fixtures/server-side-apply.json', import.meta.url);
const corpus = JSON.parse(readFileSync(file, 'utf8')) as Recorded[];
const schema = builtinSchema('apps', 'v1', 'Deployment');
const common = { schema, apiVersion: 'apps/v1', now: '2026-01-02T03:04:05Z' };

function isEmpty(value: unknown): boolean {
  return value === null || (typeof value === 'object' && Object.keys(value).length === 0);
}

/** Upstream leaves null where the last member of a map was removed; only what means something is compared. */
function meaningful(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(meaningful);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, member]) => [key, meaningful(member)] as const);
  return Object.fromEntries(entries.filter(([, member]) => !isEmpty(member)));
}

describe('applies and updates of several managers, as the API server’s own library carries them out', () => {
  test.each(corpus.map((recorded, index) => [index, recorded] as const))(
    'sequence %i',
    (_index, { steps, object, managers }) => {
      let live: JsonObject | undefined;
      for (const { manager, op, force, object: given, conflicts } of steps) {
        if (op === 'update') {
          live = trackUpdate({ before: live, after: given, manager, ...common });
          continue;
        }
        const result = serverSideApply({ live, applied: given, manager, force, ...common });
        const found = result.ok ? [] : result.error.conflicts;
        expect(found.map((one) => `${one.manager} ${one.field}`).sort()).toEqual(conflicts);
        if (result.ok) live = result.value;
      }
      const metadata = { ...(own(live, 'metadata') as JsonObject) };
      const lines = (metadata['managedFields'] ?? []) as ManagedFieldsEntry[];
      delete metadata['managedFields'];
      expect(meaningful({ ...live, metadata })).toEqual(object);
      expect(Object.fromEntries(lines.map((line) => [line.manager, line.fieldsV1]))).toEqual(
        managers,
      );
    },
  );
});
