import type { FieldList } from '../http2/index.ts';

/** A field as those write it who have few of them. */
export type HeaderField = readonly [name: string, value: string];

export function fieldsIn(list: FieldList): Map<string, string> {
  const fields = new Map<string, string>();
  for (let at = 0; at + 1 < list.length; at += 2) fields.set(list[at] ?? '', list[at + 1] ?? '');
  return fields;
}
