import { isDeepStrictEqual } from 'node:util';

import type { ServiceKey, Upsert } from '@ambit/api';

import type { SecretRecord } from '../kube/decode/secret.ts';
import type { CompiledCredential } from '../translate/credential.ts';
import {
  compileCredential,
  credentialUses,
  rootsSuffix,
  useProblem,
} from '../translate/credential.ts';
import type { CompiledDestinationRule } from '../translate/destination-rule.ts';
import type { Binding } from '../translate/waypoint.ts';
import type { Collection } from './collection.ts';
import type { Derived, Graph, Reader } from './derived.ts';
import type { Sources } from './sources.ts';
import { only, sameVersion, versionOf } from './version.ts';

interface Parts {
  readonly graph: Graph;
  readonly sources: Sources;
  readonly noted: <P, V>(name: string, derived: Derived<P, V>) => Collection<V>;
  /** With an index `credential`. */
  readonly rules: Collection<CompiledDestinationRule>;
  readonly bindingOfService: (read: Reader, service: ServiceKey) => Binding | undefined;
}

/** The Secrets that a rule needs: those that it names, and those of their roots. */
export function secretsOf(rule: CompiledDestinationRule): readonly string[] {
  return credentialUses(rule).flatMap(({ name }) => [name, `${name}${rootsSuffix}`]);
}

/** Credentials that rules name, and the rules with what is wrong with those. */
export function credentialStages({ graph, sources, noted, rules, bindingOfService }: Parts): {
  readonly rules: Collection<CompiledDestinationRule>;
  readonly output: Collection<Upsert>;
} {
  const credentials = noted(
    'credentials',
    graph.derive<SecretRecord, CompiledCredential>({
      name: 'credentials',
      primary: sources.secrets,
      derive: (record, key, read) => {
        // Of the Secrets that are watched those of roots alone are named by nobody.
        if (read.find(rules, 'credential', key).length === 0) return new Map();
        const [namespace = '', name = ''] = key.split('/');
        const twin = read.get(sources.secrets, `${key}${rootsSuffix}`);
        return only(key, compileCredential(namespace, name, record, twin));
      },
      equal: isDeepStrictEqual,
    }),
  );
  const judged = noted(
    'judged-destination-rules',
    graph.derive<CompiledDestinationRule, CompiledDestinationRule>({
      name: 'judged-destination-rules',
      primary: rules,
      derive: (rule, key, read) => {
        const uses = credentialUses(rule);
        if (uses.length === 0) return only(key, rule);
        const binding = rule.service && bindingOfService(read, rule.service);
        const waypoint =
          binding && binding.kind === 'bound' ? binding.gateway.split('/')[0] : undefined;
        const problems = uses.flatMap((use) => {
          const message = useProblem(use, read.get(credentials, use.name), waypoint);
          if (message === undefined) return [];
          return [{ object: `DestinationRule ${rule.key}`, field: use.field, message }];
        });
        return only(key, { ...rule, problems: [...rule.problems, ...problems] });
      },
      equal: isDeepStrictEqual,
    }),
  );
  const output = graph.derive<CompiledCredential, Upsert>({
    name: 'credential-output',
    primary: credentials,
    derive: (compiled, name) => {
      if (!compiled.ok) return new Map<string, Upsert>();
      const resource = compiled.value;
      return only(name, { type: 'credential', name, version: versionOf(resource), resource });
    },
    equal: sameVersion,
  }).output;
  return { rules: judged, output };
}
