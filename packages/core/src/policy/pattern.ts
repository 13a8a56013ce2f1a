import type { StringPattern } from '@ambit/api';
import { assertNever } from '@ambit/api';

/** Linear in the length of the value; patterns are data, never regular expressions. */
export function patternMatches(pattern: StringPattern, value: string): boolean {
  switch (pattern.kind) {
    case 'exact':
      return value === pattern.value;
    case 'prefix':
      return value.startsWith(pattern.value);
    case 'suffix':
      return value.endsWith(pattern.value);
    case 'presence':
      return value !== '';
    case 'template':
      return templateMatches(pattern.value, value);
    default:
      return assertNever(pattern);
  }
}

/** `{*}` stands for one segment that is not empty, `{**}` for any number of them after its slash, none too. */
function templateMatches(template: string, path: string): boolean {
  const wanted = template.split('/');
  const segments = path.split('/');
  for (const [index, part] of wanted.entries()) {
    if (part === '{**}') {
      const after = wanted.length - index - 1;
      const tail = wanted.slice(index + 1);
      if (segments.length - index <= after) return false;
      return tail.every((one, at) => segmentMatches(one, segments[segments.length - after + at]));
    }
    if (!segmentMatches(part, segments[index])) return false;
  }
  return segments.length === wanted.length;
}

function segmentMatches(part: string, segment: string | undefined): boolean {
  return part === '{*}' ? segment !== undefined && segment !== '' : part === segment;
}
