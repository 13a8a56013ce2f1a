import { isObject } from './object.ts';

type Step =
  | { readonly field: string }
  | { readonly index: number }
  | { readonly all: true }
  | { readonly where: string; readonly equals: string };

// U+E000 stands for an escaped dot in a field's name.
const stepPattern =
  /\.([\w$/\uE000-]+)|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]|(\[\*\]|\.\*)|\[\?\(@\.([\w.]+)\s*==\s*["']([^"']*)["']\)\]/gy;
const parsed = new Map<string, readonly Step[]>();
const maxRemembered = 1000;

/**
 * Values at a JSONPath of the kind printer columns use: fields (with `\.` for dots in a name), indices, `[*]` and
 * `[?(@.type=="Ready")]`. A path it cannot read finds nothing.
 */
export function valuesAtPath(value: unknown, path: string): readonly unknown[] {
  let values: readonly unknown[] = [value];
  for (const step of stepsOf(path)) values = values.flatMap((one) => follow(one, step));
  return values.filter((one) => one !== undefined && one !== null);
}

function stepsOf(path: string): readonly Step[] {
  const known = parsed.get(path);
  if (known !== undefined) return known;
  const steps = parse(path);
  if (parsed.size < maxRemembered) parsed.set(path, steps);
  return steps;
}

const nothing: readonly Step[] = [{ index: -1 }];

function parse(path: string): readonly Step[] {
  const escaped = path.replaceAll('\\.', '\uE000');
  const text = escaped.startsWith('.') || escaped.startsWith('[') ? escaped : `.${escaped}`;
  const steps: Step[] = [];
  stepPattern.lastIndex = 0;
  while (stepPattern.lastIndex < text.length) {
    const match = stepPattern.exec(text);
    if (match === null) return nothing;
    const [, plain, single, double, index, all, where, equals] = match;
    const field = plain ?? single ?? double;
    if (field !== undefined) steps.push({ field: field.replaceAll('\uE000', '.') });
    else if (index !== undefined) steps.push({ index: Number(index) });
    else if (all !== undefined) steps.push({ all: true });
    else steps.push({ where: where ?? '', equals: equals ?? '' });
  }
  return steps;
}

function follow(value: unknown, step: Step): readonly unknown[] {
  if ('field' in step) {
    return isObject(value) && Object.hasOwn(value, step.field) ? [value[step.field]] : [];
  }
  if ('all' in step)
    return Array.isArray(value) ? value : isObject(value) ? Object.values(value) : [];
  if (!Array.isArray(value)) return [];
  if ('index' in step) return value.slice(step.index, step.index + 1).filter(() => step.index >= 0);
  return value.filter((item) =>
    valuesAtPath(item, `.${step.where}`).some((found) => String(found) === step.equals),
  );
}
