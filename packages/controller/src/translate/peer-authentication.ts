import type { MtlsMode, MtlsSettings, Port } from '@ambit/api';
import { parsePort } from '@ambit/api';

import type { Problem } from '../kube/decode/fields.ts';
import { field, objectKey, textMap } from '../kube/decode/fields.ts';
import type { PeerAuthenticationRecord } from '../kube/decode/policy.ts';
import { selects } from './selector.ts';

type WrittenMode = MtlsMode | 'UNSET';

/** A PeerAuthentication by itself; which of several wins is decided for each workload. */
export interface CompiledPeerAuthentication {
  readonly name: string;
  readonly namespace: string;
  readonly createdAtMs: number;
  readonly scope: 'mesh' | 'namespace' | 'workload';
  readonly selector: ReadonlyMap<string, string>;
  readonly mode: WrittenMode;
  readonly ports: readonly { readonly port: Port; readonly mode: WrittenMode }[];
  readonly problems: readonly Problem[];
}

/** One that breaks its schema demands mutual TLS of whom it can still be read to select. */
export function compilePeerAuthentication(
  record: PeerAuthenticationRecord,
  rootNamespace: string,
): CompiledPeerAuthentication {
  const { meta, spec } = record;
  const object = `PeerAuthentication ${objectKey(meta)}`;
  const common = { name: meta.name, namespace: meta.namespace, createdAtMs: meta.createdAtMs };
  const wide = meta.namespace === rootNamespace ? 'mesh' : 'namespace';
  if (!spec.ok) {
    const { problems, raw } = spec.error;
    const readable = problems.every((one) => !one.field.startsWith('spec.selector'));
    const selector = readable
      ? textMap(field(raw, 'selector', 'matchLabels'))
      : new Map<string, string>();
    const scope = selector.size > 0 ? 'workload' : wide;
    return { ...common, scope, selector, mode: 'STRICT', ports: [], problems };
  }
  const problems: Problem[] = [];
  const selector = new Map(Object.entries(spec.value.selector?.matchLabels ?? {}));
  const ports: CompiledPeerAuthentication['ports'][number][] = [];
  for (const [text, mtls] of Object.entries(spec.value.portLevelMtls ?? {})) {
    const port = parsePort(text);
    const path = `spec.portLevelMtls[${text.slice(0, 20)}]`;
    if (!port.ok) {
      problems.push({ object, field: path, message: port.error.message });
    } else if (selector.size === 0) {
      problems.push({
        object,
        field: path,
        message: 'needs spec.selector; without it it has no effect',
      });
    } else {
      ports.push({ port: port.value, mode: mtls.mode ?? 'UNSET' });
    }
  }
  ports.sort((left, right) => left.port - right.port);
  const mode = spec.value.mtls?.mode ?? 'UNSET';
  problems.push(...idleProblems({ mode, ports, problems }, object));
  return {
    ...common,
    scope: selector.size > 0 ? 'workload' : wide,
    selector,
    mode,
    ports,
    problems,
  };
}

function idleProblems(
  { mode, ports, problems }: Pick<CompiledPeerAuthentication, 'mode' | 'ports' | 'problems'>,
  object: string,
): readonly Problem[] {
  const isSaid = [mode, ...ports.map((one) => one.mode)].some((one) => one !== 'UNSET');
  if (isSaid || problems.length > 0) return [];
  const message =
    'is UNSET, so what holds without this object holds; write STRICT, PERMISSIVE or DISABLE';
  return [{ object, field: 'spec.mtls.mode', message, reason: 'NoEffect', admissible: true }];
}

type Rival = Pick<CompiledPeerAuthentication, 'name' | 'namespace' | 'scope' | 'createdAtMs'>;

/** What is to be told of one for all of its namespace beside which an older one is. */
export function olderProblems(
  own: CompiledPeerAuthentication,
  others: readonly Rival[],
): readonly Problem[] {
  const { scope, name, namespace } = own;
  if (scope === 'workload') return [];
  const rivals = others.filter(
    (one) => one.scope === scope && one.namespace === namespace && one.name !== name,
  );
  const first = oldest<Rival>([...rivals, own]);
  if (first === undefined || first.name === name) return [];
  return [
    {
      object: `PeerAuthentication ${namespace}/${name}`,
      field: 'spec',
      message: `${first.name} is older and alone holds for the whole ${scope}; merge them`,
      reason: 'NoEffect',
      admissible: true,
    },
  ];
}

/**
 * What holds for one workload: mesh, then namespace, then selector, then port, where UNSET takes the mode of the
 * wider scope. Of several on one level the oldest wins, and of equally old ones the first by name.
 */
export function resolveMtls(
  candidates: readonly CompiledPeerAuthentication[],
  workload: { readonly namespace: string; readonly labels: ReadonlyMap<string, string> },
): MtlsSettings {
  const inNamespace = candidates.filter((one) => one.namespace === workload.namespace);
  const mesh = oldest(candidates.filter((one) => one.scope === 'mesh'));
  const namespace = oldest(inNamespace.filter((one) => one.scope === 'namespace'));
  const selected = oldest(
    inNamespace.filter((one) => one.scope === 'workload' && selects(one.selector, workload.labels)),
  );
  let mode: MtlsMode = 'PERMISSIVE';
  for (const level of [mesh, namespace, selected]) mode = inherit(level?.mode, mode);
  const ports = (selected?.ports ?? [])
    .map((one) => ({ port: one.port, mode: inherit(one.mode, mode) }))
    .filter((one) => one.mode !== mode);
  return { mode, ports };
}

function inherit(written: WrittenMode | undefined, wider: MtlsMode): MtlsMode {
  return written === undefined || written === 'UNSET' ? wider : written;
}

function oldest<R extends Rival>(candidates: readonly R[]): R | undefined {
  return candidates.reduce<R | undefined>((best, one) => {
    if (best === undefined || one.createdAtMs < best.createdAtMs) return one;
    return one.createdAtMs === best.createdAtMs && one.name < best.name ? one : best;
  }, undefined);
}
