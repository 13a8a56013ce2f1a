import type { RequestAttribute } from '@ambit/api';

import type { ConditionSpec } from '../resources/authorization-policy.ts';
import type { Compilation, CompiledMatch, Written } from './match.ts';
import { addressMatch, connectionMatch, portMatch, requestMatch } from './match.ts';

const headerKey = /^request\.headers\[([^[\]]{1,256})\]$/;
const claimKey = /^request\.auth\.claims((?:\[[^[\]]{1,256}\]){1,16})$/;

/** One entry of `when`: an attribute by its key, which must have one of the values and none of the notValues. */
export function compileCondition(
  condition: ConditionSpec,
  path: string,
  compilation: Compilation,
): CompiledMatch {
  const written: Written = {
    values: condition.values,
    notValues: condition.notValues,
    valuesPath: `${path}.values`,
    notValuesPath: `${path}.notValues`,
  };
  const unsure = compilation.whenUnsure === 'match' ? 'always' : 'never';
  if (!isGiven(condition.values) && !isGiven(condition.notValues)) {
    compilation.report(path, 'needs values or notValues');
    return unsure;
  }
  switch (condition.key) {
    case 'source.ip':
    case 'remote.ip':
    case 'destination.ip':
      return addressMatch(condition.key, written, compilation);
    case 'source.namespace':
    case 'source.principal':
    case 'source.serviceAccount':
    case 'connection.sni':
      return connectionMatch(condition.key, written, compilation);
    case 'destination.port':
      return portMatch(written, compilation);
    default:
      break;
  }
  const attribute = requestAttribute(condition.key);
  if (attribute !== undefined) return requestMatch(attribute, written, compilation);
  const key = JSON.stringify(condition.key.slice(0, 100));
  compilation.report(`${path}.key`, `${key} is no attribute that is known here`);
  return unsure;
}

function requestAttribute(key: string): RequestAttribute | undefined {
  switch (key) {
    case 'request.auth.principal':
      return { kind: 'requestPrincipal' };
    case 'request.auth.audiences':
      return { kind: 'audiences' };
    case 'request.auth.presenter':
      return { kind: 'presenter' };
    default: {
      const header = headerKey.exec(key)?.[1];
      if (header !== undefined) return { kind: 'header', name: header.toLowerCase() };
      const claims = claimKey.exec(key)?.[1];
      return claims === undefined
        ? undefined
        : { kind: 'claim', path: claims.slice(1, -1).split('][') };
    }
  }
}

function isGiven(values: readonly string[] | undefined): boolean {
  return values !== undefined && values.length > 0;
}
