import { describe, expect, test } from '@jest/globals';

import type { LabelSelectorSpec } from '../resources/mesh-config.ts';
import { compileNamespaceSelector, isDiscovered } from './namespace-selector.ts';

type Operator = 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';

function discovered(specs: readonly LabelSelectorSpec[], labels: Record<string, string>): boolean {
  const compiled = specs.map((spec) => compileNamespaceSelector(spec, 'discoverySelectors[0]'));
  return isDiscovered(
    compiled.flatMap((one) => (one.ok ? [one.value] : [])),
    new Map(Object.entries(labels)),
  );
}

const expression = (operator: Operator, values?: string[]): LabelSelectorSpec => ({
  matchExpressions: [{ key: 'team', operator, ...(values === undefined ? {} : { values }) }],
});

describe('discovery selectors', () => {
  test('none take in every namespace, and so does an empty one', () => {
    expect(discovered([], {})).toBe(true);
    expect(discovered([{}], {})).toBe(true);
  });

  test('all labels of one must be there', () => {
    const selector = { matchLabels: { mesh: 'on', stage: 'live' } };
    expect(discovered([selector], { mesh: 'on', stage: 'live', more: 'x' })).toBe(true);
    expect(discovered([selector], { mesh: 'on' })).toBe(false);
  });

  test('one of several is enough', () => {
    const selectors = [{ matchLabels: { mesh: 'on' } }, expression('In', ['a', 'b'])];
    expect(discovered(selectors, { mesh: 'on' })).toBe(true);
    expect(discovered(selectors, { team: 'b' })).toBe(true);
    expect(discovered(selectors, { team: 'c' })).toBe(false);
  });

  test('labels and expressions of one must both hold', () => {
    const selector = { ...expression('Exists'), matchLabels: { mesh: 'on' } };
    expect(discovered([selector], { mesh: 'on', team: 'a' })).toBe(true);
    expect(discovered([selector], { mesh: 'on' })).toBe(false);
    expect(discovered([selector], { team: 'a' })).toBe(false);
  });

  test.each<[Operator, string[] | undefined, boolean, boolean, boolean]>([
    // operator, values, with team=a, with team=z, without the label
    ['In', ['a'], true, false, false],
    ['NotIn', ['a'], false, true, true],
    ['Exists', undefined, true, true, false],
    ['DoesNotExist', undefined, false, false, true],
  ])('%s', (operator, values, a, z, absent) => {
    const selector = expression(operator, values);
    expect(discovered([selector], { team: 'a' })).toBe(a);
    expect(discovered([selector], { team: 'z' })).toBe(z);
    expect(discovered([selector], {})).toBe(absent);
  });

  test.each<[Operator, string[] | undefined, string]>([
    ['In', [], 'must name a value for In; Exists asks for the label alone'],
    ['NotIn', undefined, 'must name a value for NotIn; DoesNotExist asks for the label alone'],
    ['Exists', ['a'], 'must be absent for Exists'],
    ['DoesNotExist', ['a'], 'must be absent for DoesNotExist'],
  ])('%s with values %j is refused', (operator, values, message) => {
    expect(compileNamespaceSelector(expression(operator, values), 'at')).toEqual({
      ok: false,
      error: { at: 'at.matchExpressions[0].values', message },
    });
  });
});
