import type { Report } from '../kube/decode/fields.ts';
import type { HttpRouteSpec } from '../resources/virtual-service.ts';

const onlyForwarded = ['retries', 'timeout', 'mirror', 'mirrors'] as const;
const percentages = ['mirrorPercentage', 'mirrorPercent', 'mirror_percent'] as const;

/** Tells what does nothing beside the rest of a route; what Istio's validation refuses is not admissible. */
export function tellIdle(spec: HttpRouteSpec, path: string, report: Report): void {
  const answered = (['redirect', 'directResponse'] as const).find(
    (name) => spec[name] !== undefined,
  );
  if (answered !== undefined) {
    const why = `has no effect beside ${answered}, which is answered at once; remove one`;
    if (spec.rewrite !== undefined) report(`${path}.rewrite`, why);
    for (const name of onlyForwarded) {
      if (spec[name] !== undefined) report(`${path}.${name}`, why, true);
    }
  }
  // A root's mirror has the percentage of its delegate.
  if (spec.mirror !== undefined || spec.delegate !== undefined) return;
  for (const name of percentages) {
    if (spec[name] === undefined) continue;
    report(`${path}.${name}`, 'has no effect without mirror; add one, or remove it', true);
  }
}
