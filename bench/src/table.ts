import type { Path, Row } from './work.ts';

/** What one row measured on one path: medians over the rounds. */
export interface Figure {
  readonly rate: number;
  readonly p50Ms?: number;
  readonly p99Ms?: number;
  /** CPU seconds of both proxies together, per `row.cpuPer` units; 0 where there is no proxy. */
  readonly cpu: number;
}

export interface Measured {
  readonly row: Row;
  readonly figures: Readonly<Record<Path, Figure>>;
}

/** A table of ratios first: on a shared machine they mean something where single figures do not. */
export function renderTable(measured: readonly Measured[]): string {
  const head = [
    'work',
    'direct',
    'plain pair',
    'ambit',
    'ambit/plain rate',
    'plain CPU',
    'ambit CPU',
    'ambit/plain CPU',
  ];
  const lines = measured.map(({ row, figures }) => [
    row.name,
    rate(figures.direct, row),
    rate(figures['plain pair'], row),
    rate(figures.ambit, row),
    ratio(figures.ambit.rate, figures['plain pair'].rate),
    cpu(figures['plain pair'], row),
    cpu(figures.ambit, row),
    ratio(figures.ambit.cpu, figures['plain pair'].cpu),
  ]);
  return renderMarkdown([head, ...lines]);
}

export function renderMarkdown(table: readonly (readonly string[])[]): string {
  const widths = (table[0] ?? []).map((_, column) =>
    Math.max(...table.map((line) => line[column]?.length ?? 0)),
  );
  const text = table.map(
    (line) => `| ${line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`,
  );
  const rule = `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`;
  return [text[0], rule, ...text.slice(1)].join('\n');
}

function rate(figure: Figure, row: Row): string {
  const latency =
    figure.p50Ms === undefined
      ? ''
      : `, p50 ${figure.p50Ms.toFixed(2)} p99 ${(figure.p99Ms ?? 0).toFixed(2)} ms`;
  const digits = row.unit === 'GiB' ? 2 : 0;
  return `${figure.rate.toFixed(digits)} ${row.unit}/s${latency}`;
}

function cpu(figure: Figure, row: Row): string {
  const per = row.cpuPer === 1 ? row.unit : `${row.cpuPer} ${row.unit}`;
  return `${figure.cpu.toFixed(3)} s/${per}`;
}

function ratio(a: number, b: number): string {
  return b === 0 ? '–' : `${(a / b).toFixed(2)}×`;
}
