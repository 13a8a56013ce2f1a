import type { Result } from '@ambit/api';
import { err, ok } from '@ambit/api';
import type { Read } from './access-entry.ts';
import { varying } from './access-entry.ts';

/** When the request began: ISO 8601 where nothing else is asked for. */
export function compileStartTime(argument: string | undefined): Result<Read, string> {
  const format =
    argument === undefined || argument === ''
      ? ok((time: Date) => time.toISOString())
      : compileTime(argument);
  if (!format.ok) return format;
  // Requests come many to a millisecond.
  let knownMs = Number.NaN;
  let known = '';
  const read: Read = ({ startTimeMs }) => {
    if (startTimeMs === knownMs) return known;
    known = format.value(new Date(startTimeMs));
    knownMs = startTimeMs;
    return known;
  };
  return ok(varying(read));
}

const days = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
const months = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
];

type TimePart = (time: Date) => string;

const two = (value: number): string => String(value).padStart(2, '0');
const dayOf = (time: Date): string => days[time.getUTCDay()] ?? '';
const monthOf = (time: Date): string => months[time.getUTCMonth()] ?? '';
const year: TimePart = (time) => String(time.getUTCFullYear());
const month: TimePart = (time) => two(time.getUTCMonth() + 1);
const dayOfMonth: TimePart = (time) => two(time.getUTCDate());
const hour: TimePart = (time) => two(time.getUTCHours());
const minute: TimePart = (time) => two(time.getUTCMinutes());
const second: TimePart = (time) => two(time.getUTCSeconds());
const fraction = (time: Date, digits: number): string =>
  String(time.getUTCMilliseconds()).padStart(3, '0').padEnd(9, '0').slice(0, digits);

const timeParts: ReadonlyMap<string, TimePart> = new Map<string, TimePart>([
  ['Y', year],
  ['y', (time) => two(time.getUTCFullYear() % 100)],
  ['m', month],
  ['d', dayOfMonth],
  ['e', (time) => String(time.getUTCDate()).padStart(2, ' ')],
  ['H', hour],
  ['I', (time) => two(time.getUTCHours() % 12 || 12)],
  ['M', minute],
  ['S', second],
  ['p', (time) => (time.getUTCHours() < 12 ? 'AM' : 'PM')],
  ['a', (time) => dayOf(time).slice(0, 3)],
  ['A', dayOf],
  ['b', (time) => monthOf(time).slice(0, 3)],
  ['B', monthOf],
  ['F', (time) => `${year(time)}-${month(time)}-${dayOfMonth(time)}`],
  ['T', (time) => `${hour(time)}:${minute(time)}:${second(time)}`],
  ['s', (time) => String(Math.floor(time.getTime() / 1000))],
  ['f', (time) => fraction(time, 9)],
  ['z', () => '+0000'],
  ['Ez', () => '+00:00'],
  ['Z', () => 'UTC'],
]);

/** The part of strftime that Envoy's users write, with its fractions (`%3f`, `%E3S`), always in UTC. */
function compileTime(format: string): Result<(time: Date) => string, string> {
  const parts: TimePart[] = [];
  for (const [whole, specifier, digits] of format.matchAll(
    /%((?:([1-9])f|E([1-9])S|Ez|.)?)|[^%]+/gsu,
  )) {
    if (specifier === undefined) {
      parts.push(() => whole);
      continue;
    }
    const part = specifier === '%' ? () => '%' : timePart(specifier, digits);
    if (part === undefined) return err(`operator START_TIME does not know ${whole}`);
    parts.push(part);
  }
  return ok((time) => parts.map((part) => part(time)).join(''));
}

function timePart(specifier: string, digits: string | undefined): TimePart | undefined {
  if (digits !== undefined) return (time) => fraction(time, Number(digits));
  const seconds = /^E([1-9])S$/.exec(specifier)?.[1];
  if (seconds === undefined) return timeParts.get(specifier);
  return (time) => `${second(time)}.${fraction(time, Number(seconds))}`;
}
