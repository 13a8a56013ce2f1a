import { describe, expect, test } from '@jest/globals';
import type { KubeObject } from './object.ts';
import { labelSelectorOf, parseFieldSelector, parseLabelSelector } from './selectors.ts';

const pod: KubeObject = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    name: 'p',
    namespace: 'shop',
    labels: { app: 'web', 'example.com/tier': 'front', size: '5' },
  },
  spec: { nodeName: 'n1' },
  status: { phase: 'Running' },
};

describe('label selectors', () => {
  test.each([
    ['', true],
    ['app=web', true],
    ['app==web,example.com/tier=front', true],
    ['app!=web', false],
    ['missing!=x', true],
    ['app in (web, api)', true],
    ['app notin (web,api)', false],
    ['missing notin (x)', true],
    ['app', true],
    ['!app', false],
    ['! missing', true],
    ['size>4', true],
    ['size<5', false],
    ['toString', false],
  ])('%j selects: %s', (text, selected) => {
    expect(parseLabelSelector(text)(pod)).toBe(selected);
  });

  test.each(['=x', 'a b', 'app in web', '(app)'])('%j is refused', (text) => {
    expect(() => parseLabelSelector(text)).toThrow('unable to parse requirement');
  });

  test('the selector of a spec', () => {
    const selects = labelSelectorOf({
      matchLabels: { app: 'web' },
      matchExpressions: [{ key: 'tier', operator: 'DoesNotExist' }],
    });
    expect(selects({ app: 'web' })).toBe(true);
    expect(selects({ app: 'web', tier: 'x' })).toBe(false);
    expect(() => labelSelectorOf({ matchExpressions: [{ key: 'a', operator: 'Near' }] })).toThrow(
      '"Near"',
    );
  });
});

describe('field selectors', () => {
  test.each([
    ['spec.nodeName=n1,status.phase!=Failed', true],
    ['metadata.name==p', true],
    ['metadata.namespace!=shop', false],
    ['spec.hostNetwork=false', true],
    ['status.nominatedNodeName=', true],
  ])('%j selects: %s', (text, selected) => {
    expect(parseFieldSelector(text, 'pods')(pod)).toBe(selected);
  });

  test('a field that is not to select by is refused', () => {
    expect(() => parseFieldSelector('spec.image=x', 'pods')).toThrow(
      'field label not supported: spec.image',
    );
    expect(() => parseFieldSelector('metadata.name', 'pods')).toThrow('write field=value');
  });
});
