import {
  defaultWindow,
  flag,
  frame,
  frameType,
  preface,
  setting,
  settingsFrame,
  windowUpdateFrame,
} from './frames.ts';
import { dynamicTableBytes } from './hpack-table.ts';
import type { SessionLimits } from './limits.ts';

export const plainPing = Buffer.alloc(8);
/** Of the PING behind a GOAWAY that warns. */
export const lastWordPing = Buffer.from('lastword');
export const settingsAck = frame(frameType.settings, flag.ack, 0, Buffer.alloc(0));

/** What each side says first. */
export function greetingOf(role: 'client' | 'server', limits: SessionLimits): readonly Buffer[] {
  return [
    ...(role === 'client' ? [preface] : []),
    settingsFrame([
      [setting.headerTableSize, dynamicTableBytes],
      [setting.enablePush, 0],
      [setting.maxConcurrentStreams, role === 'server' ? limits.maxStreams : 0],
      [setting.initialWindowSize, limits.streamWindowBytes],
      [setting.maxFrameSize, limits.maxFrameBytes],
      [setting.maxHeaderListSize, limits.headers.maxListBytes],
    ]),
    windowUpdateFrame(0, limits.connectionWindowBytes - defaultWindow),
  ];
}

/** A header block in as many frames as the peer's largest frame makes necessary. */
export function headerFrames(
  id: number,
  block: Buffer,
  endStream: boolean,
  maxFrameBytes: number,
): readonly Buffer[] {
  const frames: Buffer[] = [];
  for (let at = 0; at === 0 || at < block.length; at += maxFrameBytes) {
    const part = block.subarray(at, at + maxFrameBytes);
    const end = at + maxFrameBytes >= block.length ? flag.endHeaders : 0;
    const type = at === 0 ? frameType.headers : frameType.continuation;
    frames.push(frame(type, end | (at === 0 && endStream ? flag.endStream : 0), id, part));
  }
  return frames;
}
