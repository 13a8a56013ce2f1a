import type { AddressInfo, Socket } from 'node:net';
import { connect, createServer } from 'node:net';
import { expect, test } from '@jest/globals';
import type { ByteSink } from './byte-stream.ts';
import { socketStream } from './socket-stream.ts';

async function pair(): Promise<{ near: Socket; far: Socket; close: () => void }> {
  const server = createServer({ allowHalfOpen: true });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
  const near = connect({ port: (server.address() as AddressInfo).port, allowHalfOpen: true });
  await new Promise<void>((resolve) => near.once('connect', () => resolve()));
  return { near, far: await accepted, close: () => void server.close() };
}

/** Takes nothing. */
const deaf: ByteSink = {
  data: () => undefined,
  end: () => undefined,
  drain: () => undefined,
  close: () => undefined,
};

test.each([
  ['an open connection', false],
  ['one that was ended already', true],
])('an abort of %s is a reset, and leaves no handle behind', async (_name, ended) => {
  const { near, far, close } = await pair();
  const how = new Promise<string>((resolve) => {
    far.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
    far.on('close', () => resolve('closed'));
    far.resume();
  });
  const stream = socketStream(near);
  const closed = new Promise<string>((resolve) => {
    stream.attach({ ...deaf, close: (error) => resolve(error?.message ?? 'in order') });
  });
  if (ended) stream.end();
  stream.abort(new Error('no more of it'));
  expect(await closed).toBe('no more of it');
  expect(await how).toBe('ECONNRESET');
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect((near as unknown as { _handle: unknown })._handle).toBeNull();
  close();
});

test('text is written as one byte a character, in turn with buffers', async () => {
  const { near, far, close } = await pair();
  const came = (async () => Buffer.concat(await far.toArray()))();
  const stream = socketStream(near);
  stream.attach(deaf);
  const long = 'x\u00e9\u00ff'.repeat(50_000);
  stream.write(Buffer.from('a'));
  stream.writeLatin1?.(long);
  stream.write(Buffer.from('b'));
  stream.end();
  expect((await came).equals(Buffer.from(`a${long}b`, 'latin1'))).toBe(true);
  far.end();
  close();
});

test('what is held for the end is there with it, and whole', async () => {
  const { near, far, close } = await pair();
  const stream = socketStream(near);
  stream.attach(deaf);
  stream.holdForEnd?.();
  stream.write(Buffer.from('the '));
  // Only the end lets it out.
  far.resume();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(far.bytesRead).toBe(0);
  stream.write(Buffer.from('answer'));
  stream.end();
  await new Promise((resolve) => far.once('end', resolve));
  expect(far.bytesRead).toBe('the answer'.length);
  far.end();
  close();
});
