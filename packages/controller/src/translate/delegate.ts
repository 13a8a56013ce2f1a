import type { HttpMatch, StringMatch } from '@ambit/api';

import type { ReadMatch } from './virtual-service-match.ts';

/** Both lists must hold: every pair of matches that can hold together. */
export function combined(outer: readonly ReadMatch[], inner: readonly ReadMatch[]): ReadMatch[] {
  if (outer.length === 0) return [...inner];
  if (inner.length === 0) return [...outer];
  return outer.flatMap((one) =>
    inner.flatMap((other): readonly ReadMatch[] => {
      const match = merged(one.match, other.match);
      return match === undefined ? [] : [{ match, unsure: one.unsure || other.unsure }];
    }),
  );
}

/** Undefined where two matches name the same part differently. */
function merged(outer: HttpMatch, inner: HttpMatch): HttpMatch | undefined {
  const path = narrower(outer.path, inner.path);
  const parts = ['scheme', 'method', 'authority', 'port', 'sourceNamespace'] as const;
  const clash =
    path === 'none' ||
    parts.some(
      (name) =>
        outer[name] !== undefined &&
        inner[name] !== undefined &&
        JSON.stringify(outer[name]) !== JSON.stringify(inner[name]),
    );
  if (clash) return undefined;
  return {
    ...outer,
    ...inner,
    ...(path === undefined ? {} : { path }),
    ignorePathCase: outer.ignorePathCase || inner.ignorePathCase,
    sourceLabels: [...outer.sourceLabels, ...inner.sourceLabels],
    headers: [...outer.headers, ...inner.headers],
    withoutHeaders: [...outer.withoutHeaders, ...inner.withoutHeaders],
    query: [...outer.query, ...inner.query],
  };
}

/** As in Istio, a delegate's path lies within its root's prefix. */
function narrower(
  outer: StringMatch | undefined,
  inner: StringMatch | undefined,
): StringMatch | 'none' | undefined {
  if (outer === undefined || inner === undefined) return inner ?? outer;
  if (JSON.stringify(outer) === JSON.stringify(inner)) return inner;
  if (outer.kind !== 'prefix' || (inner.kind !== 'exact' && inner.kind !== 'prefix')) return 'none';
  return inner.value.startsWith(outer.value) ? inner : 'none';
}
