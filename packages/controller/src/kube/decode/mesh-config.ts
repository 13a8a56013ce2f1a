import { err, ok } from '@ambit/api';
import { parseDocument } from 'yaml';

import type { MeshConfig } from '../../translate/mesh-config.ts';
import { compileMeshConfig, defaultMeshConfig } from '../../translate/mesh-config.ts';
import type { Decode } from '../cache.ts';
import { UnusableError } from '../error.ts';
import type { Problem } from './fields.ts';
import { field, objectKey, text } from './fields.ts';

/** Name of the ConfigMap in the root namespace, as Istio has it; `data.mesh` is the YAML of a MeshConfig. */
export const meshConfigMap = 'istio';

const maxChars = 1024 * 1024;
/** An alias that stands for aliases grows faster than anybody can write. */
const maxAliases = 50;

/**
 * Reads the mesh's configuration; each text against the last good one, of which stays what the next has wrong. The first
 * has none before it: where it does not say which namespaces are in scope the decoder throws, because neither all of
 * them nor fewer than were served before would be right.
 */
export function createMeshConfigDecoder(
  onProblem: (problem: Problem) => void,
  isFirst: () => boolean = () => false,
): Decode<MeshConfig> {
  const decode = createLenientDecoder();
  return (object, meta) => {
    const last = decode.last();
    const decoded = decode.next(object, meta);
    const why = decoded.ok ? selectorProblem(decoded.value, last) : decoded.error;
    if (why !== undefined && isFirst()) {
      decode.forget();
      throw new UnusableError(`${why.object}: ${why.field}: ${why.message}`);
    }
    if (decoded.ok) decoded.value.problems.forEach(onProblem);
    return decoded;
  };
}

/** Selectors that are wrong are the last ones. */
function selectorProblem(now: MeshConfig, last: MeshConfig): Problem | undefined {
  if (now.discoverySelectors !== last.discoverySelectors) return undefined;
  return now.problems.find(({ field: at }) => at.startsWith('data.mesh: discoverySelectors'));
}

function createLenientDecoder() {
  let last = defaultMeshConfig;
  const next: Decode<MeshConfig> = (object, meta) => {
    const name = `ConfigMap ${objectKey(meta)}`;
    const fail = (message: string) => err({ object: name, field: 'data.mesh', message });
    const yaml = text(field(object, 'data', 'mesh'));
    if (yaml.length > maxChars) return fail(`longer than ${maxChars} characters`);
    const document = parseDocument(yaml, { uniqueKeys: true });
    const [error] = document.errors;
    if (error !== undefined) return fail(error.message);
    let parsed: unknown;
    try {
      parsed = document.toJS({ maxAliasCount: maxAliases }) ?? {};
    } catch (thrown) {
      return fail(thrown instanceof Error ? thrown.message : String(thrown));
    }
    if (typeof parsed !== 'object' || Array.isArray(parsed)) return fail('must be a YAML mapping');
    last = compileMeshConfig(parsed, name, last);
    return ok(last);
  };
  return {
    last: () => last,
    next,
    forget: () => {
      last = defaultMeshConfig;
    },
  };
}
