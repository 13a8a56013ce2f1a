import { describe, expect, test } from '@jest/globals';
import type { TraceContext, TraceOptions } from './trace-context.ts';
import {
  childContext,
  continueTrace,
  parseB3,
  parseB3Headers,
  parseTraceparent,
  parseTracestate,
  traceHeaders,
} from './trace-context.ts';

const traceId = '0af7651916cd43dd8448eb211c80319c';
const spanId = 'b7ad6b7169203331';
const parent = '00f067aa0ba902b7';
const own = 'abababababababab';

const options: TraceOptions = {
  samplingPercent: 0,
  random: () => 0.5,
  randomDigits: (count) => 'ab'.repeat(count / 2),
};

function headersOf(headers: Readonly<Record<string, string>>) {
  const known = new Map(Object.entries(headers));
  return (name: string) => known.get(name);
}

function continued(headers: Readonly<Record<string, string>>, percent = 0): TraceContext {
  return continueTrace(headersOf(headers), { ...options, samplingPercent: percent });
}

describe('traceparent', () => {
  test.each([
    [`00-${traceId}-${spanId}-01`, true],
    [`00-${traceId}-${spanId}-00`, false],
    [`00-${traceId}-${spanId}-ff`, true],
    [`00-${traceId}-${spanId}-02`, false],
    [`cc-${traceId}-${spanId}-01`, true],
    [`cc-${traceId}-${spanId}-01-what-the-future-brings`, true],
    [`01-${traceId}-${spanId}-00-`, false],
  ])('%s is read', (text, sampled) => {
    expect(parseTraceparent(text)).toEqual({ ids: { traceId, spanId }, sampled });
  });

  test.each([
    '',
    `ff-${traceId}-${spanId}-01`,
    `00-${traceId}-${spanId}-01-`,
    `00-${traceId}-${spanId}-01-more`,
    `cc-${traceId}-${spanId}-01.more`,
    `cc-${traceId}-${spanId}-011`,
    `00-${traceId.toUpperCase()}-${spanId}-01`,
    `00-${traceId}-${spanId.toUpperCase()}-01`,
    `00-${'0'.repeat(32)}-${spanId}-01`,
    `00-${traceId}-${'0'.repeat(16)}-01`,
    `00-${traceId}-${spanId}-0`,
    `00-${traceId}-${spanId}`,
    `0-${traceId}-${spanId}-01`,
    `00-${traceId}-${spanId}-01\n`,
    ` 00-${traceId}-${spanId}-01`,
    `00-${traceId}-${spanId}-01,00-${traceId}-${spanId}-01`,
  ])('%j is refused', (text) => {
    expect(parseTraceparent(text)).toBeUndefined();
  });
});

describe('tracestate', () => {
  test.each([
    ['a=1', 'a=1'],
    ['a=1, b=2\t,,c=3,', 'a=1,b=2,c=3'],
    ['fw529a3039@dt=FfvD0FQ,a_-*/=!~', 'fw529a3039@dt=FfvD0FQ,a_-*/=!~'],
    [`${'a'.repeat(256)}=${'v'.repeat(256)}`, `${'a'.repeat(256)}=${'v'.repeat(256)}`],
    ['a= 1', 'a= 1'],
  ])('%j goes on', (text, expected) => {
    expect(parseTracestate(text)).toBe(expected);
  });

  test.each([
    '',
    ',',
    'a',
    '=1',
    'a=',
    'A=1',
    'a=1,a=2',
    'a=1=2',
    'a b=1',
    '@dt=1',
    'a@b@c=1',
    'a=\u00e9',
    'a=1\u0000',
    `${'a'.repeat(257)}=1`,
    `a=${'v'.repeat(257)}`,
    `${'t'.repeat(242)}@v=1`,
    `t@${'v'.repeat(15)}=1`,
    Array.from({ length: 33 }, (_, at) => `k${at}=1`).join(','),
  ])('%j is refused', (text) => {
    expect(parseTracestate(text)).toBeUndefined();
  });
});

describe('B3', () => {
  const ids = { traceId, spanId };

  test.each([
    ['0', { sampled: false }],
    ['1', { sampled: true }],
    ['d', { sampled: true, debug: true }],
    [`${traceId}-${spanId}`, { ids }],
    [`${traceId}-${spanId}-1`, { ids, sampled: true }],
    [`${traceId}-${spanId}-0-${parent}`, { ids, sampled: false }],
    [`${traceId}-${spanId}-d`, { ids, sampled: true, debug: true }],
    [`${spanId}-${spanId}`, { ids: { traceId: `${'0'.repeat(16)}${spanId}`, spanId } }],
  ])('in one header: %s', (text, expected) => {
    expect(parseB3(text)).toEqual(expected);
  });

  test.each([
    '',
    'x',
    traceId,
    `${traceId}-${spanId}-`,
    `${traceId}-${spanId}-2`,
    `${traceId}-${spanId}-${parent}`,
    `${traceId.toUpperCase()}-${spanId}-1`,
    `${'0'.repeat(32)}-${spanId}-1`,
    `${'0'.repeat(16)}-${spanId}-1`,
    `${traceId}-${'0'.repeat(16)}-1`,
    `${traceId.slice(1)}-${spanId}-1`,
  ])('%j is refused', (text) => {
    expect(parseB3(text)).toBeUndefined();
  });

  test('in a header for each part', () => {
    const both = { 'x-b3-traceid': traceId, 'x-b3-spanid': spanId };
    const parse = (headers: Record<string, string>) => parseB3Headers(headersOf(headers));
    expect(parse(both)).toEqual({ ids });
    expect(parse({ ...both, 'x-b3-sampled': '1' })).toEqual({ ids, sampled: true });
    expect(parse({ ...both, 'x-b3-sampled': 'false' })).toEqual({ ids, sampled: false });
    expect(parse({ ...both, 'x-b3-flags': '1', 'x-b3-sampled': '0' })).toEqual({
      ids,
      sampled: true,
      debug: true,
    });
    expect(parse({ 'x-b3-sampled': '0' })).toEqual({ sampled: false });
    expect(parse({})).toBeUndefined();
    expect(parse({ 'x-b3-traceid': traceId })).toBeUndefined();
    expect(parse({ ...both, 'x-b3-spanid': '0'.repeat(16) })).toBeUndefined();
    expect(parse({ ...both, 'x-b3-traceid': 'X' })).toBeUndefined();
  });
});

describe('a trace', () => {
  test('begins here where none comes in, sampled by percent', () => {
    const begun = { traceId: 'ab'.repeat(16), spanId: own };
    expect(continued({}, 0)).toEqual({ ...begun, sampled: false });
    expect(continued({}, 50)).toEqual({ ...begun, sampled: false });
    expect(continued({}, 50.1)).toEqual({ ...begun, sampled: true });
    expect(continued({}, 100)).toEqual({ ...begun, sampled: true });
    expect(traceHeaders(continued({}, 100))).toEqual([
      ['traceparent', `00-${'ab'.repeat(16)}-${own}-01`],
    ]);
  });

  test('goes on below the caller, who decided on sampling', () => {
    for (const [flags, sampled, percent] of [
      ['01', true, 0],
      ['00', false, 100],
    ] as const) {
      const context = continued(
        { traceparent: `00-${traceId}-${spanId}-${flags}`, tracestate: 'a=1 , b=2' },
        percent,
      );
      expect(context).toEqual({
        traceId,
        parentSpanId: spanId,
        spanId: own,
        sampled,
        state: 'a=1,b=2',
      });
      expect(traceHeaders(context)).toEqual([
        ['traceparent', `00-${traceId}-${own}-${flags}`],
        ['tracestate', 'a=1,b=2'],
      ]);
    }
  });

  test('has no state without a parent, and outlives a bad state', () => {
    expect(continued({ traceparent: 'bad', tracestate: 'a=1' }).state).toBeUndefined();
    const context = continued({
      traceparent: `00-${traceId}-${spanId}-01`,
      tracestate: 'BAD',
    });
    expect(context).toMatchObject({ traceId, sampled: true });
    expect(traceHeaders(context)).toHaveLength(1);
  });

  test('comes as B3 and goes on as both', () => {
    const single = continued({ b3: `${spanId}-${spanId}-1-${parent}` });
    expect(traceHeaders(single)).toEqual([
      ['traceparent', `00-${'0'.repeat(16)}${spanId}-${own}-01`],
      ['b3', `${spanId}-${own}-1-${spanId}`],
    ]);
    const multi = continued({ 'x-b3-traceid': traceId, 'x-b3-spanid': spanId }, 100);
    expect(traceHeaders(multi)).toEqual([
      ['traceparent', `00-${traceId}-${own}-01`],
      ['x-b3-traceid', traceId],
      ['x-b3-spanid', own],
      ['x-b3-parentspanid', spanId],
      ['x-b3-sampled', '1'],
    ]);
    const debug = continued({ b3: 'd', 'x-b3-flags': '1' });
    expect(traceHeaders(debug).slice(1)).toEqual([
      ['b3', `${'ab'.repeat(16)}-${own}-d`],
      ['x-b3-traceid', 'ab'.repeat(16)],
      ['x-b3-spanid', own],
      ['x-b3-flags', '1'],
    ]);
  });

  test('takes a decision alone, and traceparent before B3', () => {
    expect(continued({ b3: '0' }, 100)).toMatchObject({ sampled: false, b3: 'single' });
    expect(
      continued({ traceparent: `00-${traceId}-${spanId}-00`, b3: `${parent}-${parent}-1` }, 100),
    ).toMatchObject({ traceId, parentSpanId: spanId, sampled: false, b3: 'single' });
    expect(continued({ traceparent: 'bad', b3: `${traceId}-${spanId}-1` }, 0)).toMatchObject({
      traceId,
      parentSpanId: spanId,
      sampled: true,
    });
  });

  test('replaces malformed B3 rather than sending it on', () => {
    expect(traceHeaders(continued({ b3: 'bad' })).map(([name]) => name)).toEqual([
      'traceparent',
      'b3',
    ]);
  });

  test('has no id of zeros', () => {
    const context = continueTrace(() => undefined, {
      ...options,
      randomDigits: (count) => '0'.repeat(count),
    });
    expect(context).toMatchObject({
      traceId: `${'0'.repeat(31)}1`,
      spanId: `${'0'.repeat(15)}1`,
    });
  });

  test('has further spans below its own', () => {
    const context = continued({ traceparent: `00-${traceId}-${spanId}-01` });
    expect(childContext(context, (count) => '01'.repeat(count / 2))).toEqual({
      traceId,
      parentSpanId: own,
      spanId: '01'.repeat(8),
      sampled: true,
    });
  });
});
