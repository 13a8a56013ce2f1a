import { expect, test } from '@jest/globals';
import { GrpcMessages } from './grpc-messages.ts';

function message(length: number): Buffer {
  const bytes = Buffer.alloc(5 + length, 0xff);
  bytes[0] = 0;
  bytes.writeUInt32BE(length, 1);
  return bytes;
}

test('messages are counted however the bytes are cut', () => {
  const stream = Buffer.concat([message(0), message(1), message(70_000), message(0), message(300)]);
  for (const size of [1, 2, 3, 5, 7, 4096, stream.length]) {
    const messages = new GrpcMessages();
    for (let at = 0; at < stream.length; at += size) messages.data(stream.subarray(at, at + size));
    expect(messages.count).toBe(5);
  }
});

test('a message that has only begun counts, and one without a whole prefix does not', () => {
  const messages = new GrpcMessages();
  messages.data(message(100).subarray(0, 50));
  messages.data(message(100).subarray(50));
  messages.data(Buffer.from([0, 0, 0]));
  expect(messages.count).toBe(1);
});
