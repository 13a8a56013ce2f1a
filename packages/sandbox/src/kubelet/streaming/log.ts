import type { ServerResponse } from 'node:http';
import type { Container } from '../container.ts';
import { readLogFile, type LogFile, type LogLine } from '../logs.ts';

export interface LogOptions {
  readonly follow: boolean;
  readonly previous: boolean;
  readonly timestamps: boolean;
  readonly tailLines: number | undefined;
  readonly limitBytes: number | undefined;
  readonly sinceMs: number | undefined;
}

/** The options of a pod's `log` subresource (core/v1 PodLogOptions). */
export function parseLogOptions(query: URLSearchParams, nowMs: number): LogOptions {
  const number = (name: string): number | undefined => {
    const text = query.get(name);
    return text === null || !/^\d+$/.test(text) ? undefined : Number(text);
  };
  const seconds = number('sinceSeconds');
  const since = query.get('sinceTime');
  const sinceMs =
    seconds === undefined
      ? since === null
        ? undefined
        : Date.parse(since)
      : nowMs - seconds * 1000;
  return {
    follow: query.get('follow') === 'true',
    previous: query.get('previous') === 'true',
    timestamps: query.get('timestamps') === 'true',
    tailLines: number('tailLines'),
    limitBytes: number('limitBytes'),
    sinceMs: sinceMs === undefined || Number.isNaN(sinceMs) ? undefined : sinceMs,
  };
}

/** Writes a container's log to the response, following it if asked until the container or the client ends. */
export async function streamLog(
  container: Container,
  options: LogOptions,
  response: ServerResponse,
): Promise<void> {
  const file = options.previous ? container.logs.at(-2) : container.logs.at(-1);
  response.writeHead(200, { 'content-type': 'text/plain' });
  if (file === undefined) {
    response.end();
    return;
  }
  const writer = createLineWriter(options, response);
  // Lines written while the file is read are kept back, and those that the file already showed are dropped.
  const early: LogLine[] = [];
  const keep = (line: LogLine): void => void early.push(line);
  if (options.follow) file.events.on('line', keep);
  const stored = (await readLogFile(file.path)).filter(
    (line) => options.sinceMs === undefined || Date.parse(line.time) >= options.sinceMs,
  );
  file.events.off('line', keep);
  const tail =
    options.tailLines === undefined
      ? stored
      : stored.slice(Math.max(0, stored.length - options.tailLines));
  for (const line of tail) writer.write(line);
  const last = stored.at(-1)?.time ?? '';
  for (const line of early) if (line.time > last) writer.write(line);
  if (options.follow && !file.ended && !writer.full()) await follow(file, writer, response);
  response.end();
}

interface LineWriter {
  write(line: LogLine): void;
  full(): boolean;
}

function createLineWriter(options: LogOptions, response: ServerResponse): LineWriter {
  let left = options.limitBytes ?? Number.POSITIVE_INFINITY;
  return {
    write(line) {
      if (left <= 0) return;
      const text = Buffer.from(`${options.timestamps ? `${line.time} ` : ''}${line.text}\n`);
      const part = text.subarray(0, Math.min(text.length, left));
      left -= part.length;
      response.write(part);
    },
    full: () => left <= 0,
  };
}

const maxBufferedBytes = 4 * 1024 * 1024;

async function follow(file: LogFile, writer: LineWriter, response: ServerResponse): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      file.events.off('line', onLine);
      file.events.off('end', done);
      response.off('close', done);
      resolve();
    };
    const onLine = (line: LogLine): void => {
      writer.write(line);
      // A follower that does not read is cut off rather than kept in memory.
      if (writer.full() || response.writableLength > maxBufferedBytes) done();
    };
    file.events.on('line', onLine);
    file.events.on('end', done);
    response.on('close', done);
    response.flushHeaders();
  });
}
