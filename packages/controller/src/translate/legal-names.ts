import type { ConnectionAttribute, StringPattern } from '@ambit/api';

/** One part between slashes: whether a text can be it, its beginning or its end. */
interface Part {
  readonly whole: RegExp;
  readonly start: RegExp;
  readonly end: RegExp;
}

/** `inner` may stand everywhere but at the ends. */
function part(inner: string, maxChars: number): Part {
  const [edge, more] = ['[a-z0-9]', `[a-z0-9${inner}]{0,${maxChars - 1}}`];
  return {
    whole: new RegExp(`^${edge}(?:[a-z0-9${inner}]{0,${maxChars - 2}}${edge})?$`),
    start: new RegExp(`^(?:${edge}${more})?$`),
    end: new RegExp(`^(?:${more}${edge})?$`),
  };
}

const namespace = part('-', 63);
const account = part('.-', 253);
const trustDomain = part('._-', 255);
const ns: Part = { whole: /^ns$/, start: /^(?:n|ns)?$/, end: /^(?:s|ns)?$/ };
const sa: Part = { whole: /^sa$/, start: /^(?:s|sa)?$/, end: /^(?:a|sa)?$/ };

interface Form {
  readonly parts: readonly Part[];
  /** What a text of another form is not, and how one of this form is written. */
  readonly told: string;
}

const forms: Readonly<Partial<Record<ConnectionAttribute, Form>>> = {
  'source.namespace': {
    parts: [namespace],
    told: 'is no name of a namespace, which has lower-case letters, digits and - only',
  },
  'source.principal': {
    parts: [trustDomain, ns, namespace, sa, account],
    told: "is nobody's principal; write TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT",
  },
  'source.serviceAccount': {
    parts: [namespace, account],
    told: 'is no service account; write NAME or NAMESPACE/NAME, in lower-case letters, digits and -',
  },
};

/** Why nobody can have a value of the pattern; undefined where somebody may. */
export function illegalName(
  attribute: ConnectionAttribute,
  pattern: StringPattern,
): string | undefined {
  const form = forms[attribute];
  return form === undefined || isPossible(form.parts, pattern) ? undefined : form.told;
}

function isPossible(parts: readonly Part[], pattern: StringPattern): boolean {
  if (pattern.kind === 'presence' || pattern.kind === 'template') return true;
  const texts = pattern.value.split('/');
  if (texts.length > parts.length) return false;
  const isSuffix = pattern.kind === 'suffix';
  const own = isSuffix ? parts.slice(parts.length - texts.length) : parts.slice(0, texts.length);
  if (pattern.kind === 'exact' && texts.length < parts.length) return false;
  const open = { exact: -1, prefix: texts.length - 1, suffix: 0 }[pattern.kind];
  return own.every((one, index) => {
    const form = index !== open ? one.whole : isSuffix ? one.end : one.start;
    return form.test(texts[index] ?? '');
  });
}
