import type { Result } from '@ambit/api';
import { err, ok } from '@ambit/api';

import type { LabelSelectorSpec } from '../resources/mesh-config.ts';

/** A label selector over namespaces, as Kubernetes has them: all of it must hold. */
export interface NamespaceSelector {
  readonly labels: ReadonlyMap<string, string>;
  readonly expressions: readonly LabelExpression[];
}

export interface LabelExpression {
  readonly key: string;
  /** `In`, `NotIn`, `Exists` or `DoesNotExist`; another one never holds. */
  readonly operator: string;
  readonly values: ReadonlySet<string>;
}

/** Whether the selectors take in a namespace of these labels: one of them is enough, and none at all take in every one. */
export function isDiscovered(
  selectors: readonly NamespaceSelector[],
  labels: ReadonlyMap<string, string>,
): boolean {
  return selectors.length === 0 || selectors.some((one) => holds(one, labels));
}

/** Whether a namespace of these labels is selected. */
export function holds(
  { labels: wanted, expressions }: NamespaceSelector,
  labels: ReadonlyMap<string, string>,
): boolean {
  for (const [name, value] of wanted) if (labels.get(name) !== value) return false;
  return expressions.every((one) => isTrue(one, labels.get(one.key)));
}

/** `NotIn` holds where the label is absent. */
function isTrue({ operator, values }: LabelExpression, value: string | undefined): boolean {
  switch (operator) {
    case 'In':
      return value !== undefined && values.has(value);
    case 'NotIn':
      return value === undefined || !values.has(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    default:
      return false;
  }
}

export interface SelectorProblem {
  readonly at: string;
  readonly message: string;
}

/** Compiles a selector whose form is right; `at` is its place, for example `discoverySelectors[0]`. */
export function compileNamespaceSelector(
  spec: LabelSelectorSpec,
  at: string,
): Result<NamespaceSelector, SelectorProblem> {
  const expressions: LabelExpression[] = [];
  for (const [index, one] of (spec.matchExpressions ?? []).entries()) {
    const values = new Set(one.values);
    const takesValues = one.operator === 'In' || one.operator === 'NotIn';
    if (takesValues === values.size > 0) {
      expressions.push({ key: one.key, operator: one.operator, values });
      continue;
    }
    const message = takesValues
      ? `must name a value for ${one.operator}; ${one.operator === 'In' ? 'Exists' : 'DoesNotExist'} asks for the label alone`
      : `must be absent for ${one.operator}`;
    return err({ at: `${at}.matchExpressions[${index}].values`, message });
  }
  return ok({ labels: new Map(Object.entries(spec.matchLabels ?? {})), expressions });
}
