/**
 * Values of a text of JSON that is read for others: far more than an object of etcd's size has, or a proxy holds of a large
 * mesh. In memory each is some ten times what it is in a text of nothing else.
 */
export const maxValues = 500_000;

const [quote, backslash, comma, bracket, brace] = Buffer.from('"\\,[{');

/** Pure: whether a text of JSON has more values than so many: what begins one is a bracket, a brace or a comma. */
export function countsMore(body: Uint8Array, most: number): boolean {
  if (body.length <= most) return false;
  let count = 0;
  let isInside = false;
  for (let at = 0; at < body.length; at += 1) {
    const byte = body[at];
    if (isInside) {
      if (byte === backslash) at += 1;
      else if (byte === quote) isInside = false;
    } else if (byte === quote) isInside = true;
    else if (byte === comma || byte === bracket || byte === brace) {
      count += 1;
      if (count > most) return true;
    }
  }
  return false;
}
