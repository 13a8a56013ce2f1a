import type { Result } from '@ambit/api';
import { err, ok } from '@ambit/api';

import type { Metadata, Problem } from '../kube/decode/fields.ts';
import { decodeMetadata, describeProblem, field, text } from '../kube/decode/fields.ts';
import { meshConfigMap } from '../kube/decode/mesh-config.ts';
import type { Ownership } from '../ownership.ts';
import type { JudgeWorld } from './judge.ts';
import { judgeOf } from './judge.ts';

/** What is taken of an AdmissionReview of admission.k8s.io/v1. */
export interface AdmissionRequest {
  readonly uid: string;
  readonly operation: string;
  readonly group: string;
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  readonly object: unknown;
  /** What it replaces; undefined for a new one. */
  readonly before: unknown;
}

/** What validation says: an object with errors is refused. */
export interface Verdict {
  readonly errors: readonly Problem[];
  readonly warnings: readonly Problem[];
}

/** What is known, and whose objects this control plane speaks of. */
export interface AdmissionWorld extends JudgeWorld {
  readonly ownership: Pick<Ownership, 'owns'>;
}

const version = 'admission.k8s.io/v1';
/** The API cuts off a warning that is longer. */
const maxWarningChars = 256;
const maxWarnings = 20;
const maxMessageChars = 4096;

export function readReview(review: unknown): Result<AdmissionRequest, string> {
  if (field(review, 'apiVersion') !== version || field(review, 'kind') !== 'AdmissionReview')
    return err(`must be an AdmissionReview of ${version}`);
  const request = field(review, 'request');
  const uid = text(field(request, 'uid'));
  if (uid === '') return err('request.uid is missing');
  return ok({
    uid,
    operation: text(field(request, 'operation')),
    group: text(field(request, 'resource', 'group')),
    resource: text(field(request, 'resource', 'resource')),
    namespace: text(field(request, 'namespace')),
    name: text(field(request, 'name')),
    object: field(request, 'object') ?? undefined,
    before: field(request, 'oldObject') ?? undefined,
  });
}

const admitted: Verdict = { errors: [], warnings: [] };

/**
 * Pure: compiles the object as it will be compiled. What is wrong with the object itself refuses it; what depends on
 * other objects, which may come later, is a warning. So is what was wrong before: whoever changes something else of an
 * object, a finalizer for example, must not be held up by it.
 */
export function judgeRequest(request: AdmissionRequest, world: AdmissionWorld): Verdict {
  const meta = metadataOf(request, request.object);
  if (meta === undefined) return admitted;
  const verdict = judgeObject(request, meta, world);
  // What another control plane does with its objects it says itself.
  return world.ownership.owns(meta) ? verdict : { ...verdict, warnings: [] };
}

function judgeObject(request: AdmissionRequest, meta: Metadata, world: AdmissionWorld): Verdict {
  const { operation, group, resource, object } = request;
  const judge = judgeOf(group, resource);
  if (judge === undefined) return admitted;
  if (operation !== 'CREATE' && operation !== 'UPDATE') return admitted;
  if (meta.deleting) return admitted;
  const outside = outOfScope(object, meta, world);
  if (outside !== undefined) return { errors: [], warnings: [outside] };
  const problems = judge(object, meta, world);
  if (problems.length === 0) return admitted;
  const known = problems.every((one) => one.admissible)
    ? new Set<string>()
    : knownBefore(request, world);
  const isError = (one: Problem): boolean =>
    one.admissible !== true && !known.has(describeProblem(one));
  return {
    errors: problems.filter(isError),
    warnings: problems.filter((one) => !isError(one)),
  };
}

/** What is not compiled is not judged: it may be meant for another mesh. A namespace that is not known yet may be selected. */
function outOfScope(
  object: unknown,
  { namespace, name }: Metadata,
  { collections, cluster, scope }: AdmissionWorld,
): Problem | undefined {
  const isKnown = collections.sources.namespaces.get(namespace) !== undefined;
  if (!isKnown || scope.includes(namespace)) return undefined;
  const configured = `${cluster.rootNamespace}/${meshConfigMap}`;
  return {
    object: `${text(field(object, 'kind'))} ${namespace}/${name}`,
    field: 'metadata.namespace',
    message: `has no effect: discoverySelectors of ConfigMap ${configured} do not select namespace ${namespace}`,
    admissible: true,
  };
}

function knownBefore(request: AdmissionRequest, world: JudgeWorld): ReadonlySet<string> {
  const { group, resource, before } = request;
  const meta = before === undefined ? undefined : metadataOf(request, before);
  if (meta === undefined) return new Set();
  return new Set((judgeOf(group, resource)?.(before, meta, world) ?? []).map(describeProblem));
}

/** An object that is to be named by the API has no name yet, and one without an age is younger than all others. */
function metadataOf({ name, namespace }: AdmissionRequest, object: unknown): Metadata | undefined {
  const meta = decodeMetadata(object);
  if (meta !== undefined) {
    const createdAtMs = meta.createdAtMs || Number.POSITIVE_INFINITY;
    return { ...meta, namespace: meta.namespace || namespace, createdAtMs };
  }
  const given = field(object, 'metadata');
  if (given === undefined) return undefined;
  const named = text(field(given, 'generateName')) || name || 'unnamed';
  return decodeMetadata({ metadata: { ...(given as object), name: named, namespace } });
}

/** The AdmissionReview that answers. */
export function answerOf(uid: string, { errors, warnings }: Verdict): object {
  const [first] = errors;
  return {
    apiVersion: version,
    kind: 'AdmissionReview',
    response: {
      uid,
      allowed: first === undefined,
      ...(warnings.length === 0 ? {} : { warnings: warnings.slice(0, maxWarnings).map(warning) }),
      ...(first === undefined ? {} : { status: refusal(first.object, errors) }),
    },
  };
}

function refusal(object: string, errors: readonly Problem[]): object {
  const told = errors.map(({ field: path, message }) => `${path}: ${message}`).join('; ');
  return {
    // Of `Invalid` kubectl shows the causes alone, without the object's namespace and the webhook.
    code: 400,
    reason: 'BadRequest',
    message: shortened(`${object}: ${told}`, maxMessageChars),
    details: {
      causes: errors.slice(0, maxWarnings).map(({ field: path, message }) => ({
        reason: 'FieldValueInvalid',
        field: path,
        message: shortened(message, maxMessageChars),
      })),
    },
  };
}

function warning(problem: Problem): string {
  return shortened(describeProblem(problem), maxWarningChars);
}

function shortened(message: string, max: number): string {
  return message.length <= max ? message : `${message.slice(0, max - 1)}…`;
}
