import type { Logger } from 'pino';
import { destination, pino } from 'pino';

export type { Logger } from 'pino';

export type LogFormat = 'json' | 'text';
export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];

export interface LoggerOptions {
  readonly scope: string;
  readonly level: LogLevel;
  readonly format: LogFormat;
  /** Takes whole lines; standard output, written synchronously so that nothing is lost at the end, by default. */
  readonly sink?: { write(line: string): void };
}

// Values under these names are never written, wherever they stand in a line's fields.
const secrets = [
  'token',
  'authorization',
  'privateKey',
  'key',
  '*.token',
  '*.authorization',
  '*.privateKey',
  '*.key',
];

/** A logger that writes one line an event, as JSON or as text. */
export function createLogger({ scope, level, format, sink }: LoggerOptions): Logger {
  const out = sink ?? destination({ fd: 1, sync: true });
  return pino(
    {
      level,
      base: { scope },
      messageKey: 'message',
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: secrets, censor: '[redacted]' },
    },
    format === 'json' ? out : textSink(out),
  );
}

interface LineFields {
  readonly [key: string]: unknown;
  readonly time?: string;
  readonly level?: string;
  readonly scope?: string;
  readonly message?: string;
}

function textSink(out: { write(line: string): unknown }): { write(line: string): void } {
  return {
    write(line) {
      const { time, level, scope, message, ...fields } = JSON.parse(line) as LineFields;
      const rest = Object.entries(fields).map(([key, value]) => ` ${key}=${formatField(value)}`);
      out.write(
        `${time ?? ''}\t${level ?? ''}\t${scope ?? ''}\t${escapeControls(message ?? '')}${rest.join('')}\n`,
      );
    },
  };
}

/** A value as it stands in a text line: quoted where it could be taken for more than one field. */
export function formatField(value: unknown): string {
  if (typeof value === 'string')
    return /^[\w.:/@\-[\]*%+]+$/.test(value) ? value : JSON.stringify(value);
  return JSON.stringify(value);
}

/** One event is one line, whatever a stranger put into it. */
export function escapeControls(text: string): string {
  return text.replace(
    /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
