import type { CorsPolicy, StringMatch } from '@ambit/api';

import type { CorsSpec } from '../resources/gateway-api.ts';
import type { Compilation } from './gateway-compilation.ts';
import { escapeRegex, quoted } from './gateway-compilation.ts';

const defaultMaxAgeSeconds = 5;
const originForm = /^(https?):\/\/([^/\s:*]*\*?[^/\s:*]*|\[[0-9a-f:.]+\])(?::(\d{1,5}))?$/;
const impliedPorts: ReadonlyMap<string, string> = new Map([
  ['http', '80'],
  ['https', '443'],
]);
/** What `*` stands for where browsers take the star for a name, which is with credentials. */
const everyMethod = [
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'CONNECT',
  'OPTIONS',
  'TRACE',
  'PATCH',
];

export function compileCors(spec: CorsSpec, path: string, compilation: Compilation): CorsPolicy {
  const allowOrigins: StringMatch[] = [];
  for (const [index, origin] of (spec.allowOrigins ?? []).entries()) {
    const match = compileOrigin(origin);
    if (match !== undefined) allowOrigins.push(match);
    else {
      compilation.refuse(
        `${path}.allowOrigins[${index}]`,
        `${quoted(origin)} is neither * nor an origin such as https://*.example.com`,
      );
    }
  }
  const allowCredentials = spec.allowCredentials ?? false;
  const allowMethods: readonly string[] = spec.allowMethods ?? [];
  for (const field of ['allowHeaders', 'exposeHeaders'] as const) {
    if (allowCredentials && (spec[field] ?? []).includes('*')) {
      compilation.note(
        `${path}.${field}`,
        'browsers take * for the name of a header when allowCredentials is set; list the headers',
      );
    }
  }
  return {
    allowOrigins,
    allowMethods: allowCredentials && allowMethods.includes('*') ? everyMethod : allowMethods,
    allowHeaders: spec.allowHeaders ?? [],
    exposeHeaders: spec.exposeHeaders ?? [],
    maxAgeSeconds: spec.maxAge ?? defaultMaxAgeSeconds,
    allowCredentials,
    forwardUnmatchedPreflights: false,
  };
}

/** Browsers write origins in lower case and without the port that the scheme implies. */
function compileOrigin(written: string): StringMatch | undefined {
  if (written === '*') return { kind: 'exact', value: '*' };
  const parts = originForm.exec(written.toLowerCase());
  const [, scheme = '', host = '', port] = parts ?? [];
  if (host === '') return undefined;
  const suffix = port === undefined || port === impliedPorts.get(scheme) ? '' : `:${port}`;
  if (!host.includes('*')) return { kind: 'exact', value: `${scheme}://${host}${suffix}` };
  const pattern = host.split('*').map(escapeRegex).join('[^/:]+');
  return { kind: 'regex', value: `${scheme}://${pattern}${suffix}` };
}
