import { describe, expect, test } from '@jest/globals';
import { builtinSchema } from './builtin.ts';
import { applyJsonPatch, maxJsonPatchOperations } from './json-patch.ts';
import { applyMergePatch } from './merge-patch.ts';
import { applyStrategicMergePatch } from './strategic-merge.ts';
import type { JsonObject } from './types.ts';

function valueOf(result: { ok: boolean; value?: unknown; error?: unknown }): unknown {
  if (!result.ok) throw new TypeError(JSON.stringify(result.error));
  return result.value;
}

describe('applyJsonPatch: the examples of RFC 6902, appendix A', () => {
  const examples: [string, unknown, unknown[], unknown][] = [
    [
      'A.1 adding a member',
      { foo: 'bar' },
      [{ op: 'add', path: '/baz', value: 'qux' }],
      { baz: 'qux', foo: 'bar' },
    ],
    [
      'A.2 adding an element',
      { foo: ['bar', 'baz'] },
      [{ op: 'add', path: '/foo/1', value: 'qux' }],
      { foo: ['bar', 'qux', 'baz'] },
    ],
    [
      'A.3 removing a member',
      { baz: 'qux', foo: 'bar' },
      [{ op: 'remove', path: '/baz' }],
      { foo: 'bar' },
    ],
    [
      'A.4 removing an element',
      { foo: ['bar', 'qux', 'baz'] },
      [{ op: 'remove', path: '/foo/1' }],
      { foo: ['bar', 'baz'] },
    ],
    [
      'A.5 replacing a value',
      { baz: 'qux', foo: 'bar' },
      [{ op: 'replace', path: '/baz', value: 'boo' }],
      { baz: 'boo', foo: 'bar' },
    ],
    [
      'A.6 moving a value',
      { foo: { bar: 'baz', waldo: 'fred' }, qux: { corge: 'grault' } },
      [{ op: 'move', from: '/foo/waldo', path: '/qux/thud' }],
      { foo: { bar: 'baz' }, qux: { corge: 'grault', thud: 'fred' } },
    ],
    [
      'A.7 moving an element',
      { foo: ['all', 'grass', 'cows', 'eat'] },
      [{ op: 'move', from: '/foo/1', path: '/foo/3' }],
      { foo: ['all', 'cows', 'eat', 'grass'] },
    ],
    [
      'A.8 testing a value',
      { baz: 'qux', foo: ['a', 2, 'c'] },
      [
        { op: 'test', path: '/baz', value: 'qux' },
        { op: 'test', path: '/foo/1', value: 2 },
      ],
      { baz: 'qux', foo: ['a', 2, 'c'] },
    ],
    [
      'A.10 adding a nested object',
      { foo: 'bar' },
      [{ op: 'add', path: '/child', value: { grandchild: {} } }],
      { foo: 'bar', child: { grandchild: {} } },
    ],
    [
      'A.11 ignoring unrecognised members',
      { foo: 'bar' },
      [{ op: 'add', path: '/baz', value: 'qux', xyz: 123 }],
      { foo: 'bar', baz: 'qux' },
    ],
    [
      'A.14 escaped tilde and slash',
      { '/': 9, '~1': 10 },
      [{ op: 'test', path: '/~01', value: 10 }],
      { '/': 9, '~1': 10 },
    ],
    [
      'A.16 adding an array',
      { foo: ['bar'] },
      [{ op: 'add', path: '/foo/-', value: ['abc', 'def'] }],
      { foo: ['bar', ['abc', 'def']] },
    ],
    [
      'copying a value',
      { a: { b: 1 } },
      [
        { op: 'copy', from: '/a', path: '/c' },
        { op: 'replace', path: '/c/b', value: 2 },
      ],
      { a: { b: 1 }, c: { b: 2 } },
    ],
    ['replacing the whole', { a: 1 }, [{ op: 'replace', path: '', value: [] }], []],
  ];
  test.each(examples)('%s', (_name, doc, ops, expected) => {
    expect(valueOf(applyJsonPatch(doc, ops))).toEqual(expected);
  });

  const refused: [string, unknown, unknown, string][] = [
    [
      'A.9 a test that fails',
      { baz: 'qux' },
      [{ op: 'test', path: '/baz', value: 'bar' }],
      'patch/test-failed',
    ],
    [
      'A.12 adding to what is not there',
      { foo: 'bar' },
      [{ op: 'add', path: '/baz/bat', value: 'qux' }],
      'patch/path',
    ],
    [
      'A.15 comparing strings and numbers',
      { '/': 9, '~1': 10 },
      [{ op: 'test', path: '/~01', value: '10' }],
      'patch/test-failed',
    ],
    ['removing what is not there', {}, [{ op: 'remove', path: '/a' }], 'patch/path'],
    [
      'an index with a leading zero',
      { a: [1, 2] },
      [{ op: 'remove', path: '/a/01' }],
      'patch/path',
    ],
    ['an index beyond the end', { a: [1] }, [{ op: 'add', path: '/a/3', value: 1 }], 'patch/path'],
    ['moving into itself', { a: {} }, [{ op: 'move', from: '/a', path: '/a/b' }], 'patch/path'],
    ['a prototype', {}, [{ op: 'replace', path: '/__proto__/x', value: 1 }], 'patch/path'],
    ['an unknown operation', {}, [{ op: 'merge', path: '/a', value: 1 }], 'patch/malformed'],
    ['no list', {}, {}, 'patch/malformed'],
    ['no value', {}, [{ op: 'add', path: '/a' }], 'patch/malformed'],
    [
      'too many',
      {},
      new Array(maxJsonPatchOperations + 1).fill({ op: 'test', path: '', value: {} }),
      'patch/too-large',
    ],
  ];
  test.each(refused)('refuses %s', (_name, doc, ops, code) => {
    const before = JSON.stringify(doc);
    expect(applyJsonPatch(doc, ops)).toMatchObject({ ok: false, error: { code } });
    expect(JSON.stringify(doc)).toBe(before);
  });

  test('names the operation and the path that failed', () => {
    const ops = [
      { op: 'add', path: '/a', value: 1 },
      { op: 'remove', path: '/b/c' },
    ];
    const result = applyJsonPatch({}, ops);
    expect(result.ok ? '' : result.error.message).toContain('operation 1 (remove "/b/c")');
  });
});

describe('applyMergePatch: the examples of RFC 7396, appendix A', () => {
  const examples: [unknown, unknown, unknown][] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [
      ['a', 'b'],
      ['c', 'd'],
      ['c', 'd'],
    ],
    [{ a: 'b' }, ['c'], ['c']],
    [{ a: 'foo' }, null, null],
    [{ a: 'foo' }, 'bar', 'bar'],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: 'b', c: null }, { a: 'b' }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ];
  test.each(examples)('%j with %j is %j', (doc, patch, expected) => {
    expect(applyMergePatch(doc, patch)).toEqual(expected);
  });

  test('a key __proto__ stays a key', () => {
    const patched = applyMergePatch({}, JSON.parse('{"__proto__":{"polluted":true}}'));
    expect(JSON.stringify(patched)).toBe('{"__proto__":{"polluted":true}}');
    expect(Object.getPrototypeOf(patched)).toBe(Object.prototype);
  });
});

describe('applyStrategicMergePatch', () => {
  const pod = builtinSchema('', 'v1', 'Pod');
  const container = (name: string, image: string): JsonObject => ({ name, image });
  const spec = (patch: unknown, doc: JsonObject): unknown => {
    const result = applyStrategicMergePatch(pod, { spec: doc }, { spec: patch });
    return (valueOf(result) as { spec: unknown }).spec;
  };
  const two = { containers: [container('a', '1'), container('b', '1')] };

  test('containers merge by name and a new one comes as the API server puts it', () => {
    expect(spec({ containers: [container('b', '2')] }, two)).toEqual({
      containers: [container('a', '1'), container('b', '2')],
    });
  });
  test('$patch: delete removes one item', () => {
    expect(spec({ containers: [{ name: 'a', $patch: 'delete' }] }, two)).toEqual({
      containers: [container('b', '1')],
    });
  });
  test('$patch: replace replaces the whole list', () => {
    const patch = { containers: [{ $patch: 'replace' }, container('c', '3')] };
    expect(spec(patch, two)).toEqual({ containers: [container('c', '3')] });
  });
  test('$patch: replace in a map replaces the map', () => {
    const doc = { nodeSelector: { a: '1', b: '2' } };
    expect(spec({ nodeSelector: { $patch: 'replace', c: '3' } }, doc)).toEqual({
      nodeSelector: { c: '3' },
    });
  });
  test('$setElementOrder reorders', () => {
    const patch = { '$setElementOrder/containers': [{ name: 'b' }, { name: 'a' }] };
    expect(spec(patch, two)).toEqual({ containers: [container('b', '1'), container('a', '1')] });
  });
  test('$deleteFromPrimitiveList takes values out of a merged list', () => {
    const doc = { metadata: { finalizers: ['x/a', 'x/b', 'x/c'] } };
    const patch = { metadata: { '$deleteFromPrimitiveList/finalizers': ['x/b'] } };
    expect(valueOf(applyStrategicMergePatch(pod, doc, patch))).toEqual({
      metadata: { finalizers: ['x/a', 'x/c'] },
    });
  });
  test('$retainKeys clears what is not named', () => {
    const deployment = builtinSchema('apps', 'v1', 'Deployment');
    const doc = { spec: { strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1 } } } };
    const patch = { spec: { strategy: { $retainKeys: ['type'], type: 'Recreate' } } };
    expect(valueOf(applyStrategicMergePatch(deployment, doc, patch))).toEqual({
      spec: { strategy: { type: 'Recreate' } },
    });
  });
  test('null removes, in a list without merge key the patch replaces', () => {
    const doc = { hostname: 'x', tolerations: [{ key: 'a' }] };
    expect(spec({ hostname: null, tolerations: [{ key: 'b' }] }, doc)).toEqual({
      tolerations: [{ key: 'b' }],
    });
  });
  test.each([
    [{ containers: [{ image: 'x' }] }, 'does not contain declared merge key: name'],
    [{ containers: [{ name: 'a', $patch: 'merge' }] }, 'is not for lists'],
    [{ nodeSelector: { $patch: 'wipe' } }, 'unknown patch type'],
  ])('refuses %j', (patch, message) => {
    const doc = { spec: { ...two, nodeSelector: { a: 'b' } } };
    const result = applyStrategicMergePatch(pod, doc, { spec: patch });
    expect(result.ok ? '' : result.error.message).toContain(message);
  });
});
