import type { AccessLogFormat, Result } from '@ambit/api';
import type { RenderLine, TelemetryFacts } from '@ambit/core';
import {
  compileFormat,
  compileJsonFormat,
  defaultJsonFormat,
  defaultTextFormat,
} from '@ambit/core';

export interface LineSink {
  write(lines: string): unknown;
}

/** Writes lines; those of a moment leave in one write. */
export interface AccessLog {
  write(line: string): void;
  /** Writes what waits, at the end. */
  flush(): void;
}

const flushMs = 10;
const maxWaitingChars = 64 * 1024;

export function createAccessLog(sink: LineSink): AccessLog {
  let waiting = '';
  let timer: NodeJS.Timeout | undefined;
  const flush = (): void => {
    clearTimeout(timer);
    timer = undefined;
    const lines = waiting;
    waiting = '';
    if (lines !== '') sink.write(lines);
  };
  return {
    write(line) {
      waiting += line;
      if (waiting.length > maxWaitingChars) flush();
      else timer ??= setTimeout(flush, flushMs);
    },
    flush,
  };
}

/** One log that a request may have to be told to. */
export interface LogWriter {
  readonly render: RenderLine;
  readonly filter: ((facts: TelemetryFacts) => boolean) | undefined;
}

export function formatOf(
  format: AccessLogFormat,
  defaultKind: 'text' | 'json',
): Result<RenderLine, string> {
  switch (format.kind) {
    case 'default-text':
      return defaultKind === 'text'
        ? compileFormat(defaultTextFormat)
        : compileJsonFormat(defaultJsonFormat);
    case 'text':
      return compileFormat(format.text === '' ? defaultTextFormat : format.text);
    case 'json':
      return compileJsonFormat(
        format.fields.length === 0 ? defaultJsonFormat : new Map(format.fields),
      );
  }
}
