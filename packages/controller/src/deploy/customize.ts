import { isDeepStrictEqual } from 'node:util';

import { gatewayManagedLabel, gatewayNameLabel, hbonePort } from '@ambit/api';
import { parseDocument } from 'yaml';

import type { ParametersRecord } from '../kube/decode/parameters.ts';
import { field, list } from '../kube/decode/fields.ts';
import { merged } from './merge.ts';
import type { Deployed } from './objects.ts';
import { podProblems } from './restricted.ts';

/** What is deployed, with what the Gateway's parameters change of it, or why nothing is. */
export type Customized =
  | { readonly ok: true; readonly objects: readonly Deployed[] }
  | { readonly ok: false; readonly problems: readonly string[] };

const kinds: ReadonlyMap<string, string> = new Map([
  ['deployment', 'Deployment'],
  ['service', 'Service'],
  ['serviceAccount', 'ServiceAccount'],
]);
const maxChars = 64 * 1024;

/**
 * Pure: a ConfigMap's `deployment`, `service` and `serviceAccount`, each a part of such an object in YAML, are merged
 * into what is deployed as Kubernetes merges strategically. What makes it this waypoint cannot be changed, and a
 * ConfigMap gives nobody rights on a node.
 */
export function customized(
  objects: readonly Deployed[],
  name: string,
  parameters: ParametersRecord,
): Customized {
  if (parameters.kind !== 'read') {
    const why = parameters.kind === 'missing' ? 'is not there' : parameters.why;
    return { ok: false, problems: [`ConfigMap ${name}: ${why}`] };
  }
  const problems: string[] = [];
  const changed = new Map<string, object>();
  for (const [key, text] of parameters.texts) {
    const problem = readInto(changed, key, text);
    if (problem !== undefined) problems.push(`ConfigMap ${name}: data.${key}: ${problem}`);
  }
  const made = objects.map((one): Deployed => {
    const overlay = changed.get(one.object.kind);
    if (overlay === undefined) return one;
    const object = merged(one.object, overlay) as Deployed['object'];
    const key = [...kinds].find(([, kind]) => kind === one.object.kind)?.[0] ?? '';
    for (const problem of objections(one.object, object))
      problems.push(`ConfigMap ${name}: data.${key}: ${problem}`);
    return { ...one, object };
  });
  return problems.length === 0 ? { ok: true, objects: made } : { ok: false, problems };
}

function readInto(into: Map<string, object>, key: string, text: string): string | undefined {
  const kind = kinds.get(key);
  if (kind === undefined) return `is not known; use ${[...kinds.keys()].join(', ')}`;
  if (text.length > maxChars) return `longer than ${maxChars} characters`;
  const document = parseDocument(text, { uniqueKeys: true });
  const [error] = document.errors;
  if (error !== undefined) return error.message;
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 0 }) ?? {};
  } catch (thrown) {
    return thrown instanceof Error ? thrown.message : String(thrown);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return 'must be a YAML mapping';
  into.set(kind, value);
  return undefined;
}

/** Where both the selectors and the identity of a waypoint are from. */
const fixed: readonly (readonly string[])[] = [
  ['apiVersion'],
  ['kind'],
  ['metadata', 'name'],
  ['metadata', 'namespace'],
  ['metadata', 'ownerReferences'],
  ['metadata', 'labels', gatewayNameLabel],
  ['metadata', 'labels', gatewayManagedLabel],
  ['spec', 'selector'],
  ['spec', 'template', 'metadata', 'labels', gatewayNameLabel],
  ['spec', 'template', 'metadata', 'labels', gatewayManagedLabel],
  ['spec', 'template', 'metadata', 'labels', 'istio.io/dataplane-mode'],
  ['spec', 'template', 'spec', 'serviceAccountName'],
];

function objections(before: unknown, after: unknown): string[] {
  const moved = fixed
    .filter((path) => !isDeepStrictEqual(field(before, ...path), field(after, ...path)))
    .map((path) => `${path.join('.')} cannot be changed`);
  const pod = field(after, 'spec', 'template', 'spec');
  const ports = list(field(after, 'spec', 'ports'));
  const lostPort =
    field(after, 'kind') === 'Service' &&
    !ports.some(
      (one) => field(one, 'port') === hbonePort && field(one, 'targetPort') === hbonePort,
    );
  return [
    ...moved,
    ...(lostPort ? [`spec.ports must have ${hbonePort}`] : []),
    ...(field(after, 'kind') === 'Deployment' ? podProblems(pod) : []),
  ];
}
