import { describe, expect, test } from '@jest/globals';
import { builtinKinds, builtinSchema } from './builtin.ts';

describe('builtinSchema', () => {
  test('every kind links', () => {
    for (const { group, version, kind } of builtinKinds()) {
      expect(builtinSchema(group, version, kind)?.type).toBe('object');
    }
  });

  test('what several kinds contain is linked once', () => {
    const pod = builtinSchema('', 'v1', 'Pod')?.properties;
    const template = builtinSchema('', 'v1', 'PodTemplate')?.properties?.['template'];
    const deployment = builtinSchema('apps', 'v1', 'Deployment')?.properties?.['spec'];
    expect(pod?.['spec']?.properties?.['containers']).toBeDefined();
    expect(template?.properties?.['spec']).toBe(pod?.['spec']);
    expect(deployment?.properties?.['template']).toBe(template);
    expect(builtinSchema('', 'v1', 'Pod')?.properties).toBe(pod);
  });
});
