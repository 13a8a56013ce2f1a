import { EventEmitter } from 'node:events';
import { closeSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';

export type LogStream = 'stdout' | 'stderr';

/** One line of a container, as it is kept. */
export interface LogLine {
  /** RFC 3339 with nanoseconds. */
  readonly time: string;
  readonly stream: LogStream;
  readonly text: string;
}

export interface LogFile {
  readonly path: string;
  write(stream: LogStream, chunk: Buffer): void;
  /** Ends the file; an unfinished line is kept as a partial one. */
  end(): void;
  readonly ended: boolean;
  /** Emits `line` for every line written, and `end`. */
  readonly events: EventEmitter<{ line: [LogLine]; end: [] }>;
}

const maxFileBytes = 10 * 1024 * 1024;
const maxLineBytes = 16 * 1024;

/** Opens a container's log in the CRI format; a full file is rotated to `.1`, whose predecessor goes. */
export function openLogFile(path: string): LogFile {
  mkdirSync(dirname(path), { recursive: true });
  let descriptor = openSync(path, 'a', 0o640);
  let size = 0;
  let ended = false;
  const pending: Record<LogStream, Buffer> = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };
  const events = new EventEmitter<{ line: [LogLine]; end: [] }>();
  events.setMaxListeners(200);

  function append(stream: LogStream, tag: 'F' | 'P', line: Buffer): void {
    const time = timestamp();
    const record = Buffer.concat([
      Buffer.from(`${time} ${stream} ${tag} `),
      line,
      Buffer.from('\n'),
    ]);
    if (size + record.length > maxFileBytes) {
      closeSync(descriptor);
      renameSync(path, `${path}.1`);
      descriptor = openSync(path, 'a', 0o640);
      size = 0;
    }
    writeSync(descriptor, record);
    size += record.length;
    events.emit('line', { time, stream, text: line.toString('utf8') });
  }

  return {
    path,
    events,
    get ended() {
      return ended;
    },
    write(stream, chunk) {
      if (ended) return;
      let rest = pending[stream].length === 0 ? chunk : Buffer.concat([pending[stream], chunk]);
      for (let at = rest.indexOf(10); at >= 0; at = rest.indexOf(10)) {
        append(stream, 'F', rest.subarray(0, at));
        rest = rest.subarray(at + 1);
      }
      while (rest.length > maxLineBytes) {
        append(stream, 'P', rest.subarray(0, maxLineBytes));
        rest = rest.subarray(maxLineBytes);
      }
      pending[stream] = Buffer.from(rest);
    },
    end() {
      if (ended) return;
      for (const stream of ['stdout', 'stderr'] as const) {
        if (pending[stream].length > 0) append(stream, 'P', pending[stream]);
      }
      ended = true;
      closeSync(descriptor);
      events.emit('end');
    },
  };
}

const clockOffsetNs = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();

function timestamp(): string {
  const now = process.hrtime.bigint() + clockOffsetNs;
  const seconds = new Date(Number(now / 1_000_000n)).toISOString().slice(0, 19);
  return `${seconds}.${String(now % 1_000_000_000n).padStart(9, '0')}Z`;
}

/** What a log file and its rotated predecessor hold. */
export async function readLogFile(path: string): Promise<LogLine[]> {
  const parts = await Promise.all(
    [`${path}.1`, path].map((file) => readFile(file, 'utf8').catch(() => '')),
  );
  const lines: LogLine[] = [];
  let partial = '';
  for (const record of parts.join('').split('\n')) {
    const match = /^(\S+) (stdout|stderr) ([FP]) (.*)$/s.exec(record);
    if (match === null) continue;
    const [, time = '', stream, tag, text = ''] = match;
    if (tag === 'P') {
      partial += text;
      continue;
    }
    lines.push({ time, stream: stream === 'stderr' ? 'stderr' : 'stdout', text: partial + text });
    partial = '';
  }
  const last = lines.at(-1);
  if (partial !== '')
    lines.push({ time: last?.time ?? timestamp(), stream: 'stdout', text: partial });
  return lines;
}
