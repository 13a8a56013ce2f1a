import { describe, expect, test } from '@jest/globals';
import { protocolOf } from './protocol.ts';

describe('what the first bytes are', () => {
  test.each([
    ['GET / HTTP/1.1', 'http1'],
    ['M-SEARCH * HTTP/1.1', 'http1'],
    ['get / HTTP/1.1', 'http1'],
    ['\r\nGET / HTTP/1.1', 'http1'],
    ['\nGET /', 'http1'],
    ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'http2'],
    ['\x16\x03\x01', 'tls'],
    ['\x00\x01\x02\x03', 'tcp'],
    ['a method of more than thirty-two characters', 'http1'],
    ['"quoted" ', 'tcp'],
  ])('%j is %s', (text, protocol) => {
    expect(protocolOf(Buffer.from(text, 'latin1'))).toBe(protocol);
  });

  test.each(['', '\r\n', 'GE', 'PRI * HTT', '\x16'])('%j may still be several things', (text) => {
    expect(protocolOf(Buffer.from(text, 'latin1'))).toBeUndefined();
  });
});
