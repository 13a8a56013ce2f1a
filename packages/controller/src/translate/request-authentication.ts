import type { JwtRule, RequestAuthentication, TokenLocation } from '@ambit/api';

import type { RequestAuthenticationRecord } from '../kube/decode/configuration.ts';
import type { Problem } from '../kube/decode/fields.ts';
import { objectKey } from '../kube/decode/fields.ts';
import type { JwtRuleSpec } from '../resources/request-authentication.ts';
import { durationMs } from './duration.ts';
import { compileTargets } from './targets.ts';
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
  const report = (field: string, message: string): void => {
    problems.push({ object, field, message });
  };
  if (!record.spec.ok) return { authentication: undefined, problems };
  const spec = record.spec.value;
  if (spec.targetRef === undefined && (spec.targetRefs ?? []).length === 0) {
    report(
      'spec.targetRefs',
      'is empty: tokens are verified at waypoints, so name the Service or Gateway',
    );
    return { authentication: undefined, problems };
  }
  return {
    authentication: {
      name: meta.name,
      namespace: meta.namespace,
      targets: compileTargets(spec, meta.namespace, cluster, report),
      rules: (spec.jwtRules ?? []).map((rule, index) =>
        compileRule(rule, `spec.jwtRules[${index}]`, report),
      ),
    },
    problems,
  };
}

function compileRule(
  rule: JwtRuleSpec,
  path: string,
  report: (field: string, message: string) => void,
): JwtRule {
  if (rule.issuer === undefined || rule.issuer === '')
    report(`${path}.issuer`, 'must not be empty');
  const timeoutMs = rule.timeout === undefined ? defaultFetchMs : durationMs(rule.timeout);
  if (timeoutMs === undefined) report(`${path}.timeout`, 'is no length of time such as 5s');
  const from: TokenLocation[] = [
    ...(rule.fromHeaders ?? []).map(({ name = '', prefix = '' }): TokenLocation => ({
      kind: 'header',
      name: name.toLowerCase(),
      prefix,
    })),
    ...(rule.fromParams ?? []).map((name): TokenLocation => ({ kind: 'query', name })),
    ...(rule.fromCookies ?? []).map((name): TokenLocation => ({ kind: 'cookie', name })),
  ];
  return {
    issuer: rule.issuer ?? '',
    audiences: rule.audiences ?? [],
    keys: keysOf(rule, timeoutMs ?? defaultFetchMs, path, report),
    from,
    forwardOriginalToken: rule.forwardOriginalToken ?? false,
    ...(rule.outputPayloadToHeader === undefined
      ? {}
      : { outputPayloadToHeader: rule.outputPayloadToHeader.toLowerCase() }),
    outputClaimsToHeaders: (rule.outputClaimToHeaders ?? []).map(({ header = '', claim = '' }) => ({
      header: header.toLowerCase(),
      claim: claim.split('.'),
    })),
  };
}

function keysOf(
  rule: JwtRuleSpec,
  timeoutMs: number,
  path: string,
  report: (field: string, message: string) => void,
): JwtRule['keys'] {
  if (rule.jwks !== undefined && rule.jwks !== '') {
    try {
      JSON.parse(rule.jwks);
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
