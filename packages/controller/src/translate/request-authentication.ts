import type { JwtRule, RequestAuthentication, TokenLocation } from '@ambit/api';

import type { RequestAuthenticationRecord } from '../kube/decode/configuration.ts';
import type { Problem, Report } from '../kube/decode/fields.ts';
import { field, list, objectKey, text } from '../kube/decode/fields.ts';
import type { JwtRuleSpec } from '../resources/request-authentication.ts';
import { selectsNothing } from '../resources/request-authentication.ts';
import { durationMs } from './duration.ts';
import { compileTargets, readableTargets } from './targets.ts';
import type { ClusterFacts } from './workload.ts';

export interface CompiledRequestAuthentication {
  /** Undefined for one that no waypoint enforces. */
  readonly authentication: RequestAuthentication | undefined;
  readonly problems: readonly Problem[];
}

const defaultFetchMs = 5_000;

/** RequestAuthentication as Istio defines it. A rule whose keys cannot be had refuses every token of its issuer. */
export function compileRequestAuthentication(
  record: RequestAuthenticationRecord,
  cluster: ClusterFacts,
): CompiledRequestAuthentication {
  const { meta } = record;
  const problems: Problem[] = [...record.problems];
  const object = `RequestAuthentication ${objectKey(meta)}`;
  const report: Report = (field, message, admissible) => {
    problems.push({ object, field, message, ...(admissible && { admissible }) });
  };
  if (!record.spec.ok) {
    // What it would have demanded is not known: whoever it is for refuses until it can be read.
    const targets = readableTargets(record.spec.error, meta.namespace, cluster);
    const { name, namespace } = meta;
    const authentication = { name, namespace, targets, rules: [], broken: true };
    return { authentication: targets.length === 0 ? undefined : authentication, problems };
  }
  const spec = record.spec.value;
  if (spec.targetRef === undefined && (spec.targetRefs ?? []).length === 0) {
    const selects = Object.keys(spec.selector?.matchLabels ?? {}).length > 0;
    if (selects) report('spec.selector', selectsNothing, true);
    else
      report(
        'spec.targetRefs',
        'is empty: tokens are verified at waypoints, so name the Service or Gateway',
        true,
      );
    return { authentication: undefined, problems };
  }
  if ((spec.jwtRules ?? []).length === 0)
    report('spec.jwtRules', 'is empty: no token is verified; add a rule', true);
  return {
    authentication: {
      name: meta.name,
      namespace: meta.namespace,
      targets: compileTargets(spec, meta.namespace, cluster, report),
      rules: (spec.jwtRules ?? []).map((rule, index) =>
        compileRule(rule, `spec.jwtRules[${index}]`, report),
      ),
      broken: false,
    },
    problems,
  };
}

function compileRule(rule: JwtRuleSpec, path: string, report: Report): JwtRule {
  const { issuer = '', jwksUri = '', audiences = [], forwardOriginalToken = false } = rule;
  if (issuer === '' && jwksUri === '') {
    report(`${path}.issuer`, 'must not be empty where there is no jwksUri either');
  }
  const timeoutMs = rule.timeout === undefined ? defaultFetchMs : durationMs(rule.timeout);
  if (timeoutMs === undefined) report(`${path}.timeout`, 'is no length of time such as 5s');
  return {
    issuer,
    audiences,
    keys: keysOf(rule, timeoutMs ?? defaultFetchMs, path, report),
    from: locationsOf(rule, path, report),
    forwardOriginalToken,
    // As Istio has it: these two always, and what the rule adds.
    spaceDelimitedClaims: [
      ...new Set(['scope', 'permission', ...(rule.spaceDelimitedClaims ?? [])]),
    ],
    ...outputsOf(rule, path, report),
  };
}

function locationsOf(rule: JwtRuleSpec, path: string, report: Report): TokenLocation[] {
  const { fromHeaders = [], fromParams = [], fromCookies = [] } = rule;
  return [
    ...fromHeaders.flatMap(({ name, prefix = '' }, index): TokenLocation[] => {
      const header = headerName(name, `${path}.fromHeaders[${index}].name`, report);
      return header === undefined ? [] : [{ kind: 'header', name: header, prefix }];
    }),
    ...fromParams.map((name): TokenLocation => ({ kind: 'query', name })),
    ...fromCookies.map((name): TokenLocation => ({ kind: 'cookie', name })),
  ];
}

function outputsOf(
  rule: JwtRuleSpec,
  path: string,
  report: Report,
): Pick<JwtRule, 'outputPayloadToHeader' | 'outputClaimsToHeaders'> {
  const payload =
    rule.outputPayloadToHeader === undefined
      ? undefined
      : outputName(rule.outputPayloadToHeader, `${path}.outputPayloadToHeader`, report);
  return {
    ...(payload === undefined ? {} : { outputPayloadToHeader: payload }),
    outputClaimsToHeaders: (rule.outputClaimToHeaders ?? []).flatMap(
      ({ header, claim = '' }, index) => {
        const at = `${path}.outputClaimToHeaders[${index}]`;
        if (claim === '') report(`${at}.claim`, 'must not be empty');
        const name = outputName(header, `${at}.header`, report);
        return name === undefined || claim === ''
          ? []
          : [{ header: name, claim: claim.split('.') }];
      },
    ),
  };
}

function headerName(name: string | undefined, path: string, report: Report): string | undefined {
  if (name !== undefined && /^[A-Za-z0-9_-]{1,256}$/.test(name)) return name.toLowerCase();
  report(path, 'is no name of a header: letters, digits, - and _ only');
  return undefined;
}

/** Names that frame or route a message, or that only the proxy may write. */
const notForOutput =
  /^(?:host|content-length|transfer-encoding|connection|upgrade|te|trailer|expect|keep-alive|x-forwarded-.*|x-envoy-.*|x-ambit-.*)$/;

function outputName(name: string | undefined, path: string, report: Report): string | undefined {
  const header = headerName(name, path, report);
  if (header === undefined || !notForOutput.test(header.replaceAll('_', '-'))) return header;
  report(path, `${header} cannot carry a claim: it frames the message or is the proxy's own`);
  return undefined;
}

/** As the waypoint has it: a shared secret in a key set would let everybody who reads it sign. */
const usableTypes: ReadonlySet<string> = new Set(['RSA', 'EC', 'OKP']);

function keysOf(
  rule: JwtRuleSpec,
  timeoutMs: number,
  path: string,
  report: Report,
): JwtRule['keys'] {
  if (rule.jwks !== undefined && rule.jwks !== '') {
    try {
      const keys = list(field(JSON.parse(rule.jwks), 'keys'));
      if (!keys.some((key) => usableTypes.has(text(field(key, 'kty'))))) {
        report(`${path}.jwks`, 'has no RSA, EC or OKP key; every token of this issuer is refused');
      }
      return { kind: 'inline', jwks: rule.jwks };
    } catch {
      report(`${path}.jwks`, 'is no JSON; every token of this issuer is refused');
      return { kind: 'none', why: 'its keys are no JSON' };
    }
  }
  const uri = rule.jwksUri ?? '';
  if (/^https?:\/\//.test(uri) && URL.canParse(uri)) return { kind: 'remote', uri, timeoutMs };
  report(
    `${path}.jwksUri`,
    'there is neither jwks nor a jwksUri of http or https; every token of this issuer is refused',
  );
  return { kind: 'none', why: 'it has no keys' };
}
