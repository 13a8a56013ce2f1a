const unitsMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** `1h30m`, `1.5s`, `250ms` as milliseconds; undefined for anything else. */
export function durationMs(text: string): number | undefined {
  const form =
    /^(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?$/;
  const parts = form.exec(text);
  if (parts === null || text === '') return text === '0' ? 0 : undefined;
  const [, hours, minutes, seconds, millis] = parts;
  const of = (value: string | undefined, unit: string): number =>
    value === undefined ? 0 : Number(value) * (unitsMs[unit] ?? 0);
  return of(hours, 'h') + of(minutes, 'm') + of(seconds, 's') + of(millis, 'ms');
}
