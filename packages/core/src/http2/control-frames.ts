import { errorCode, flag, frameType, maxWindow } from './frames.ts';

/** What a control frame of the peer says, once it is known to be well formed. */
export interface ControlEvents {
  /** Takes something of the peer's budget; false when it was used up, and the session is over. */
  charge(cost: number): boolean;
  fail(code: number, why: string): void;
  settings(values: readonly (readonly [id: number, value: number])[]): void;
  connectionWindow(increment: number): void;
  streamWindow(id: number, increment: number): void;
  reset(id: number, code: number): void;
  ping(payload: Buffer): void;
  pingAnswered(payload: Buffer): void;
  goaway(lastTaken: number): void;
}

const smallIncrement = 1024;

/** Reads every frame but HEADERS and DATA. What moves no data is not for free. */
export function readControlFrame(
  type: number,
  flags: number,
  id: number,
  payload: Buffer,
  events: ControlEvents,
): void {
  switch (type) {
    case frameType.settings:
      readSettings(flags, id, payload, events);
      break;
    case frameType.windowUpdate:
      readWindowUpdate(id, payload, events);
      break;
    case frameType.rstStream:
      if (payload.length !== 4 || id === 0) events.fail(errorCode.protocol, malformedReset);
      else events.reset(id, payload.readUInt32BE(0));
      break;
    case frameType.ping:
      readPing(flags, payload, events);
      break;
    case frameType.goaway:
      if (payload.length < 8) events.fail(errorCode.frameSize, 'malformed GOAWAY');
      else if (events.charge(1)) events.goaway(payload.readUInt32BE(0) & maxWindow);
      break;
    case frameType.pushPromise:
      events.fail(errorCode.protocol, 'PUSH_PROMISE was not enabled');
      break;
    default:
      // PRIORITY and frames of types we do not know are ignored, as the standard asks, but not for free.
      events.charge(1);
  }
}

export const malformedReset = 'malformed RST_STREAM';

function readSettings(flags: number, id: number, payload: Buffer, events: ControlEvents): void {
  if (id !== 0 || payload.length % 6 !== 0) {
    events.fail(errorCode.protocol, 'malformed SETTINGS');
    return;
  }
  if (!events.charge((flags & flag.ack) !== 0 ? 1 : 10) || (flags & flag.ack) !== 0) return;
  const values: [number, number][] = [];
  for (let at = 0; at < payload.length; at += 6) {
    values.push([payload.readUInt16BE(at), payload.readUInt32BE(at + 2)]);
  }
  events.settings(values);
}

function readWindowUpdate(id: number, payload: Buffer, events: ControlEvents): void {
  const increment = payload.length === 4 ? payload.readUInt32BE(0) & maxWindow : 0;
  if (increment === 0) {
    events.fail(errorCode.protocol, 'malformed WINDOW_UPDATE');
    return;
  }
  if (increment < smallIncrement && !events.charge(1)) return;
  if (id === 0) events.connectionWindow(increment);
  else events.streamWindow(id, increment);
}

function readPing(flags: number, payload: Buffer, events: ControlEvents): void {
  if (payload.length !== 8) events.fail(errorCode.frameSize, 'malformed PING');
  else if ((flags & flag.ack) === 0) {
    if (events.charge(2)) events.ping(payload);
  } else if (events.charge(1)) events.pingAnswered(payload);
}
