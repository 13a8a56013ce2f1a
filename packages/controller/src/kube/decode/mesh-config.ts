import { err, ok } from '@ambit/api';
import { parseDocument } from 'yaml';

import type { MeshConfig } from '../../translate/mesh-config.ts';
import { compileMeshConfig, defaultMeshConfig } from '../../translate/mesh-config.ts';
import type { Decode } from '../cache.ts';
import type { Problem } from './fields.ts';
import { field, objectKey, text } from './fields.ts';

/** Name of the ConfigMap in the root namespace, as Istio has it; `data.mesh` is the YAML of a MeshConfig. */
export const meshConfigMap = 'istio';

const maxChars = 1024 * 1024;
/** An alias that stands for aliases grows faster than anybody can write. */
const maxAliases = 50;

/** Reads the mesh's configuration; each text against the last good one, of which stays what the next has wrong. */
export function createMeshConfigDecoder(onProblem: (problem: Problem) => void): Decode<MeshConfig> {
  let last = defaultMeshConfig;
  return (object, meta) => {
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
    last.problems.forEach(onProblem);
    return ok(last);
  };
}
