import { expect, test } from '@jest/globals';
import type { Framing } from './head.ts';
import { defaultHttp1Limits } from './limits.ts';
import { MessageParser } from './parser.ts';

test('bytes that come while others are parsed come after them', () => {
  const found: string[] = [];
  const parser: MessageParser = new MessageParser(defaultHttp1Limits, {
    head: (text): Framing => {
      found.push(text);
      // A stream that is resumed here hands out what it held back at once.
      parser.push(Buffer.from('3\r\ndef\r\n'));
      return { kind: 'chunked' };
    },
    data: (chunk) => {
      found.push(chunk.toString());
      if (chunk.toString() === 'abc') parser.push(Buffer.from('0\r\n\r\n'));
    },
    end: () => found.push('end'),
    failed: ({ message }) => found.push(message),
  });
  parser.push(Buffer.from('head\r\n\r\n3\r\nabc\r\n'));
  expect(found).toEqual(['head', 'abc', 'def', 'end']);
});
