/** The fields of a header block, flat: name, value, name, value … An array of pairs costs an object for each. */
export type FieldList = readonly string[];

// RFC 7541 Appendix A, in order; index 1 is the first.
const entries = (
  ':authority|:method=GET|:method=POST|:path=/|:path=/index.html|:scheme=http|:scheme=https|:status=200|:status=204|' +
  ':status=206|:status=304|:status=400|:status=404|:status=500|accept-charset|accept-encoding=gzip, deflate|' +
  'accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control|' +
  'content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type|' +
  'cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|' +
  'last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|' +
  'server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate'
).split('|');

/** The static table, flat: the name of index `i` stands at `2 * (i - 1)`. */
export const staticFields: FieldList = entries.flatMap((entry) => {
  const at = entry.indexOf('=');
  return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)];
});

export const staticCount = entries.length;

/** What a table of fields may hold, ours and the peer's: the default of the standard. */
export const dynamicTableBytes = 4096;

/** What RFC 7541 §4.1 counts for a field. */
export function sizeOfField(name: string, value: string): number {
  return name.length + value.length + 32;
}
