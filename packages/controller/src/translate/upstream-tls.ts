import type { TlsSource, UpstreamTls } from '@ambit/api';

import type { SettingsSpec } from '../resources/destination-rule.ts';

type TlsSpec = NonNullable<SettingsSpec['tls']>;

/** Where problems go, and whose rule it is. */
interface Report {
  (field: string, message: string, admissible?: true): void;
  readonly namespace: string;
}

const fileFields = ['caCertificates', 'clientCertificate', 'privateKey', 'caCrl'] as const;

/** `trafficPolicy.tls`. What cannot be done is told, and stands in the model so that nothing goes out in plain text. */
export function compileUpstreamTls(spec: TlsSpec, path: string, report: Report): UpstreamTls {
  const names = {
    ...(spec.sni === undefined || spec.sni === '' ? {} : { sni: spec.sni }),
    subjectAltNames: spec.subjectAltNames ?? [],
  };
  switch (spec.mode) {
    case 'ISTIO_MUTUAL':
      for (const name of [...fileFields, 'credentialName', 'insecureSkipVerify'] as const) {
        if (spec[name] !== undefined)
          report(
            `${path}.${name}`,
            'the mesh has certificates of its own for ISTIO_MUTUAL; remove it',
          );
      }
      return { mode: 'istio-mutual', ...names };
    case 'SIMPLE':
    case 'MUTUAL': {
      const source = sourceOf(spec, spec.mode, path, report);
      if (typeof source === 'string') return { mode: 'broken', why: source };
      return {
        mode: spec.mode === 'SIMPLE' ? 'simple' : 'mutual',
        ...names,
        source,
        insecureSkipVerify: spec.insecureSkipVerify ?? false,
      };
    }
    default:
      tellUnused(spec, path, report);
      return { mode: 'disable' };
  }
}

/** Without a mode, as in Istio, nothing is encrypted whatever else is said. */
function tellUnused({ mode, ...rest }: TlsSpec, path: string, report: Report): void {
  const unused = Object.keys(rest);
  if (unused.length === 0) return;
  const isSaid = mode === undefined ? 'is not set, which means DISABLE' : 'is DISABLE';
  const why = `requests go out in plain text, and ${unused.join(', ')} has no effect`;
  report(`${path}.mode`, `${isSaid}: ${why}; set SIMPLE, MUTUAL or ISTIO_MUTUAL`, true);
}

/** The source, or why there is none. */
function sourceOf(
  spec: TlsSpec,
  mode: 'SIMPLE' | 'MUTUAL',
  path: string,
  report: Report,
): TlsSource | string {
  const broken: Broken = (field, why) => {
    report(`${path}.${field}`, `${why}; requests are answered 503 until then`);
    return `${field}: ${why}`;
  };
  const files = fileFields.filter((name) => spec[name] !== undefined && spec[name] !== '');
  const { credentialName } = spec;
  if (credentialName !== undefined && credentialName !== '') {
    const [other] = files;
    if (other !== undefined)
      return broken(other, 'is a file, and credentialName names a Secret; keep one of the two');
    if (!/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/.test(credentialName))
      return broken('credentialName', 'must be the name of a Secret of this namespace');
    return { kind: 'credential', name: `${report.namespace}/${credentialName}` };
  }
  const relative = files.find((name) => !isPath(name, spec[name]));
  if (relative !== undefined) return broken(relative, 'must be an absolute path in the waypoint');
  const own = ['clientCertificate', 'privateKey'] as const;
  if (mode === 'MUTUAL') {
    const absent = own.find((name) => !files.includes(name));
    return absent === undefined
      ? filesOf(spec)
      : broken(absent, 'MUTUAL needs clientCertificate and privateKey, or credentialName');
  }
  for (const name of own) {
    if (files.includes(name))
      report(`${path}.${name}`, 'is not shown with SIMPLE; remove it, or use MUTUAL');
  }
  const { caCertificates, caCrl } = spec;
  return filesOf({ caCertificates, caCrl });
}

type Broken = (field: string, why: string) => string;

function isPath(name: (typeof fileFields)[number], value: string | undefined): boolean {
  return value?.startsWith('/') === true || (name === 'caCertificates' && value === 'system');
}

type FileNames = { readonly [K in (typeof fileFields)[number]]?: string | undefined };

function filesOf(spec: FileNames): TlsSource {
  const { caCertificates: ca, clientCertificate: certificate, privateKey, caCrl: crl } = spec;
  return {
    kind: 'files',
    ...(ca === undefined ? {} : { ca }),
    ...(certificate === undefined ? {} : { certificate }),
    ...(privateKey === undefined ? {} : { privateKey }),
    ...(crl === undefined ? {} : { crl }),
  };
}
