import { describe, expect, test } from '@jest/globals';
import type { Direction } from '@ambit/core';
import { Exchanges } from './exchanges.ts';

type Said = readonly [direction: 'client' | 'server', text: string];

/** After which of the chunks the connection may end. */
function ends(said: readonly Said[], last?: Direction): readonly number[] {
  const exchanges = new Exchanges(last);
  return said.flatMap(([who, text], index) =>
    exchanges.follow(who === 'client' ? 'sent' : 'received', Buffer.from(text, 'latin1'))
      ? [index]
      : [],
  );
}

/** The same bytes, behind the first chunk one at a time: the same moments. */
function endsByBytes([first, ...said]: readonly Said[]): readonly number[] {
  const indexes = said.flatMap(([, text], index) => bytesOf(text).map(() => index + 1));
  const bytes = said.flatMap(([who, text]) => bytesOf(text).map((byte): Said => [who, byte]));
  return ends([first!, ...bytes]).map((at) => indexes[at - 1]!);
}

const bytesOf = (text: string): string[] => text.match(/[^]/g) ?? [];

const ask = 'GET /a HTTP/1.1\r\nHost: shop\r\n\r\n';
const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

describe('a connection may end behind an answer', () => {
  test.each<readonly [string, readonly Said[], readonly number[]]>([
    [
      'of a length',
      [
        ['client', ask],
        ['server', ok],
      ],
      [1],
    ],
    [
      'every time',
      [
        ['client', ask],
        ['server', ok],
        ['client', ask],
        ['server', ok],
      ],
      [1, 3],
    ],
    [
      'that comes in parts',
      [
        ['client', ask],
        ['server', 'HTTP/1.1 200 OK\r\ncontent-length:  5 \r\n\r\nab'],
        ['server', 'cde'],
      ],
      [2],
    ],
    [
      'in chunks, whatever they hold',
      [
        ['client', ask],
        ['server', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'],
        ['server', '7;x=y\r\n\r\n0\r\n\r\n\r\n'],
        ['server', '0\r\nx-sum: 1\r\n'],
        ['server', '\r\n'],
      ],
      [4],
    ],
    [
      'without a body',
      [
        ['client', 'HEAD / HTTP/1.1\r\nHost: a\r\n\r\n'],
        ['server', 'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n'],
        ['client', ask],
        ['server', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 12\r\n\r\n'],
        ['client', ask],
        ['server', 'HTTP/1.1 204\r\n\r\n'],
      ],
      [1, 3, 5],
    ],
    [
      'that was promised before',
      [
        ['client', 'POST / HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n'],
        ['server', 'HTTP/1.1 100 Continue\r\n\r\n'],
        ['client', 'abc'],
        ['server', ok],
      ],
      [3],
    ],
    [
      'of the last of several requests',
      [
        ['client', ask + ask],
        ['server', ok],
        ['client', ask],
        ['server', ok + ok],
      ],
      [3],
    ],
  ])('%s', (_, said, expected) => {
    expect(ends(said)).toEqual(expected);
    expect(endsByBytes(said)).toEqual(expected);
  });

  test('once it is seen from its request on', () => {
    expect(
      ends(
        [
          ['server', 'cde'],
          ['client', ask],
          ['server', ok],
        ],
        'received',
      ),
    ).toEqual([2]);
  });
});

describe('a connection may not end by it', () => {
  test.each<readonly [string, readonly Said[]]>([
    [
      'while a request is under way',
      [
        ['client', ask],
        ['server', ok.slice(0, -1)],
      ],
    ],
    [
      'when an answer came before the end of its request',
      [
        ['client', 'POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc'],
        ['server', ok],
      ],
    ],
    [
      'without a length',
      [
        ['client', ask],
        ['server', 'HTTP/1.1 200 OK\r\n\r\nabc'],
      ],
    ],
    [
      'with a coding that is not known',
      [
        ['client', ask],
        ['server', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc'],
      ],
    ],
    [
      'once it speaks something else',
      [
        ['client', ask],
        ['server', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n'],
        ['client', 'hello'],
        ['server', ok],
      ],
    ],
    [
      'that is a tunnel',
      [
        ['client', 'CONNECT a:1 HTTP/1.1\r\n\r\n'],
        ['server', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'],
      ],
    ],
    [
      'of HTTP/2',
      [
        ['client', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
        ['server', ok],
      ],
    ],
    [
      'of a request whose coding is not known',
      [
        ['client', 'POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n'],
        ['server', ok],
      ],
    ],
    ['nobody asked for', [['server', ok]]],
    [
      'that answers twice',
      [
        ['client', ask],
        ['server', ok + ok],
      ],
    ],
    [
      'of a client that asks for no end of things',
      [
        ['client', ask.repeat(100)],
        ['server', ok.repeat(100)],
      ],
    ],
    [
      'of a head without end',
      [
        ['client', `GET / HTTP/1.1\r\na: ${'a'.repeat(70_000)}`],
        ['server', ok],
      ],
    ],
    [
      'of another protocol',
      [
        ['client', 'SELECT 1;'],
        ['server', '1 row'],
      ],
    ],
  ])('%s', (_, said) => {
    expect(ends(said)).toEqual([]);
  });

  test('in the middle of a request that it saw the end of', () => {
    expect(
      ends(
        [
          ['client', ask],
          ['server', ok],
        ],
        'sent',
      ),
    ).toEqual([]);
  });
});
