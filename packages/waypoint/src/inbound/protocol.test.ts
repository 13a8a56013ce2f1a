import { describe, expect, test } from '@jest/globals';
import { guardedProtocolOf, httpVersionOf, maxFirstLineBytes, protocolOf } from './protocol.ts';

const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';

describe('what the first bytes are where nobody says', () => {
  test.each([
    ['GET / HTTP/1.1\r\n', 'http1'],
    ['GET / HTTP/1.0\r\n', 'http1'],
    ['M-SEARCH * HTTP/1.1\r\nhost: a', 'http1'],
    ['get / HTTP/1.1\r\n', 'http1'],
    ['\r\nGET / HTTP/1.1\r\n', 'http1'],
    ['GET / HTTP/1.1\n', 'http1'],
    [`GET /${'x'.repeat(3 * maxFirstLineBytes)} HTTP/1.1\r\n`, 'http1'],
    [preface, 'http2'],
    ['\x16\x03\x01', 'tls'],
    ['\x00\x01\x02\x03', 'tcp'],
    ['"quoted" ', 'tcp'],
    ['STOCK lamp\n', 'tcp'],
    ['metric.name 42 1234567\n', 'tcp'],
    ['OPTIONS rtsp://a/b RTSP/1.0\r\n', 'tcp'],
    ['INVITE sip:a@b SIP/2.0\r\n', 'tcp'],
    ['set foo 0 0 3\r\n', 'tcp'],
    ['NICK a\r\n', 'tcp'],
    ['GET /x\r\n', 'tcp'],
    ['GET / HTTP/1.1 \r\n', 'tcp'],
    ['HTTP/1.1\r\n', 'tcp'],
    [`GET /${'x'.repeat(maxFirstLineBytes)}`, 'tcp'],
  ])('%j is %s', (text, protocol) => {
    expect(protocolOf(Buffer.from(text, 'latin1'))).toBe(protocol);
  });

  test.each([
    '',
    '\r\n',
    'GE',
    'GET / HTTP/1.1',
    'GET / HTTP/1.1\r',
    'SET a b',
    'PRI * HTT',
    '\x16',
  ])('%j may still be several things', (text) => {
    expect(protocolOf(Buffer.from(text, 'latin1'))).toBeUndefined();
  });
});

describe('what the first bytes are where something holds for requests', () => {
  test.each([
    ['GET /x', 'http1'],
    ['GET /x\r\n', 'http1'],
    ['GET /x HTTP/1.1 \r\n', 'http1'],
    ['get /x HTTP/1.1\r\n', 'http1'],
    ['GET\t/x HTTP/1.1\r\n', 'http1'],
    [' GET /x HTTP/1.1\r\n', 'http1'],
    [`${'\r\n'.repeat(20)}GET /x HTTP/1.1\r\n`, 'http1'],
    ['\n'.repeat(60), 'http1'],
    ['a method of more than thirty-two characters', 'http1'],
    ['STOCK lamp\n', 'http1'],
    [preface, 'http2'],
    ['\x16\x03\x01', 'tls'],
    ['\x00\x01\x02\x03', 'tcp'],
    ['"quoted" ', 'tcp'],
  ])('%j is %s', (text, protocol) => {
    expect(guardedProtocolOf(Buffer.from(text, 'latin1'))).toBe(protocol);
  });

  test.each(['', '\r\n', 'GE', 'PRI * HTT', '\x16'])('%j may still be several things', (text) => {
    expect(guardedProtocolOf(Buffer.from(text, 'latin1'))).toBeUndefined();
  });
});

test('where the port says HTTP, one byte tells which unless it is of the preface', () => {
  const of = (text: string) => httpVersionOf(Buffer.from(text, 'latin1'));
  expect(['G', '\r', '\x16\x03\x01', 'PRI * HTTP/1'].map(of)).toEqual(Array(4).fill('http1'));
  expect(['', 'P', 'PRI * HTTP/2.0'].map(of)).toEqual(Array(3).fill(undefined));
  expect(of(preface)).toBe('http2');
});
