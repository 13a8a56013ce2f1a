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

/** Writes lines; those of one turn leave in one write. */
export interface AccessLog {
  write(line: string): void;
}

const flushMs = 1;

export function createAccessLog(sink: LineSink): AccessLog {
  let waiting = '';
  let due = false;
  const flush = (): void => {
    due = false;
    const lines = waiting;
    waiting = '';
    sink.write(lines);
  };
  return {
    write(line) {
      waiting += line;
      if (due) return;
      due = true;
      setTimeout(flush, flushMs);
    },
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
