import { describe, expect, test } from '@jest/globals';
import { isApiError } from '../errors.ts';
import { decodeProtobuf } from './decode.ts';

/** One member with the length of its bytes before it. */
function bytes(number: number, value: string | Buffer): Buffer {
  const body = Buffer.from(value);
  if (body.length > 127) throw new Error('this writer knows short members only');
  return Buffer.concat([Buffer.from([(number << 3) | 2, body.length]), body]);
}

const varint = (number: number, value: number): Buffer => Buffer.from([number << 3, value]);

function envelope(apiVersion: string, kind: string, message: Buffer): Buffer {
  const type = Buffer.concat([bytes(1, apiVersion), bytes(2, kind)]);
  return Buffer.concat([Buffer.from('k8s\0'), bytes(1, type), bytes(2, message)]);
}

describe('an object in protobuf', () => {
  test('keeps pointers to nothing and leaves out what is not set', () => {
    const metadata = Buffer.concat([bytes(1, 'sa'), bytes(2, ''), bytes(3, 'shop'), bytes(8, '')]);
    const label = bytes(11, Buffer.concat([bytes(1, 'app'), bytes(2, 'web')]));
    const message = Buffer.concat([bytes(1, Buffer.concat([metadata, label])), varint(4, 0)]);
    expect(decodeProtobuf(envelope('v1', 'ServiceAccount', message))).toEqual({
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: 'sa', namespace: 'shop', labels: { app: 'web' } },
      automountServiceAccountToken: false,
    });
  });

  test('gives bytes in base64 and numbers or text where either may stand', () => {
    const entry = bytes(2, Buffer.concat([bytes(1, 'key'), bytes(2, 'value')]));
    expect(decodeProtobuf(envelope('v1', 'Secret', entry))).toMatchObject({
      data: { key: 'dmFsdWU=' },
    });
    const port = (target: Buffer): Buffer =>
      bytes(2, bytes(1, Buffer.concat([varint(3, 80), bytes(4, target)])));
    const ports = (target: Buffer): unknown =>
      decodeProtobuf(envelope('v1', 'Service', port(target)))['spec'];
    expect(ports(Buffer.concat([varint(1, 0), varint(2, 81)]))).toEqual({
      ports: [{ port: 80, targetPort: 81 }],
    });
    expect(ports(Buffer.concat([varint(1, 1), bytes(3, 'http')]))).toEqual({
      ports: [{ port: 80, targetPort: 'http' }],
    });
  });

  test.each([
    ['no envelope', Buffer.from('{"kind":"Pod"}')],
    ['a kind that is not known', envelope('example.com/v1', 'Widget', Buffer.alloc(0))],
    [
      'a member that is cut off',
      Buffer.concat([Buffer.from('k8s\0'), Buffer.from([0x0a, 0x7f, 1])]),
    ],
    ['a number without an end', Buffer.concat([Buffer.from('k8s\0'), Buffer.alloc(20, 0xff)])],
    ['a number where a message belongs', envelope('v1', 'Secret', varint(1, 7))],
  ])('%s is a bad request', (_what, body) => {
    expect.assertions(1);
    try {
      decodeProtobuf(body);
    } catch (error) {
      expect(isApiError(error, 'BadRequest')).toBe(true);
    }
  });

  test('whatever bytes come, it is read or refused', () => {
    const good = envelope(
      'v1',
      'Secret',
      Buffer.concat([bytes(1, bytes(1, 'a')), bytes(2, bytes(1, 'key'))]),
    );
    let refused = 0;
    for (let index = 4; index < good.length; index++) {
      for (const value of [0x00, 0x7f, 0x80, 0xff]) {
        const changed = Buffer.from(good);
        changed[index] = value;
        try {
          expect(decodeProtobuf(changed)['kind']).toBeDefined();
        } catch (error) {
          if (!isApiError(error, 'BadRequest')) throw error;
          refused++;
        }
      }
    }
    expect(refused).toBeGreaterThan(0);
  });
});
