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

/** What a parser finds in bytes that come in pieces; bodies as they are once all has come. */
function found(bytes: Buffer, piece: number): string[] {
  const parts: { readonly kind: string; readonly bytes: Buffer }[] = [];
  const parser: MessageParser = new MessageParser(defaultHttp1Limits, {
    head: (text): Framing => {
      parts.push({ kind: 'head', bytes: Buffer.from(text) });
      if (text.startsWith('POST')) return { kind: 'length', bytes: 6 };
      return text.startsWith('PUT') ? { kind: 'chunked' } : { kind: 'none' };
    },
    data: (chunk) => parts.push({ kind: 'data', bytes: chunk }),
    end: () => {
      parts.push({ kind: 'end', bytes: Buffer.alloc(0) });
      parser.next();
    },
    failed: ({ message }) => parts.push({ kind: message, bytes: Buffer.alloc(0) }),
  });
  for (let at = 0; at < bytes.length; at += piece) parser.push(bytes.subarray(at, at + piece));
  const texts: string[] = [];
  let body = '';
  for (const { kind, bytes: part } of parts) {
    if (kind === 'data') body += part.toString();
    else texts.push(`${kind} ${body}${part.toString()}`);
    if (kind !== 'data') body = '';
  }
  return texts;
}

test('however the bytes are cut, the same is found, and nothing that was handed out changes', () => {
  const bytes = Buffer.from(
    'GET /1\r\na: b\r\n\r\nPOST /2\r\n\r\nabcdefPUT /3\r\n\r\n4;x=y\r\nwxyz\r\nb\r\n12345678901\r\n0\r\nt: u\r\n\r\n'.repeat(
      40,
    ),
  );
  const whole = found(bytes, bytes.length);
  expect(whole.length).toBe(40 * 6);
  for (const piece of [1, 2, 3, 5, 7, 16, 100, 513, 1_000]) {
    expect(found(bytes, piece)).toEqual(whole);
  }
});

test('a line feed without its return is found at any cut', () => {
  for (let piece = 1; piece < 30; piece += 1) {
    const texts = found(Buffer.from('GET / HTTP/1.1\r\nHost: x\nY: z\r\n'), piece);
    expect(texts).toEqual(['a line feed without its return ']);
  }
});

test('a large head that comes byte by byte is not looked through again for each of them', () => {
  const head = Buffer.from(`GET /${'x'.repeat(55_000)} HTTP/1.1\r\nHost: x\r\n\r\n`);
  // The least of three: what else this process has to do, such as collecting garbage, comes on top.
  const costsMs = [1, 2, 3].map(() => {
    const before = process.threadCpuUsage();
    expect(found(head, 1).length).toBe(2);
    const { user, system } = process.threadCpuUsage(before);
    return (user + system) / 1_000;
  });
  expect(Math.min(...costsMs)).toBeLessThan(300);
});
