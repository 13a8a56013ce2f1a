import type { Service } from '@ambit/api';

import type { Metadata, Problem } from '../kube/decode/fields.ts';
import { objectKey } from '../kube/decode/fields.ts';

export type GatewayRouteKind = 'HTTPRoute' | 'GRPCRoute' | 'TCPRoute' | 'TLSRoute';

/** One end of a reference between objects. */
export interface ReferenceEnd {
  readonly group: string;
  readonly kind: string;
  readonly namespace: string;
}

/** A waypoint whose Gateway routes may name. */
export interface RouteWaypoint {
  /** Names of its listeners. */
  readonly listeners: readonly string[];
  /** Whether routes of the namespace may name it. */
  readonly allows: (namespace: string) => boolean;
  /** The services that are bound to it. */
  readonly services: () => readonly Service[];
  /** False while nothing can be bound to it yet. */
  readonly isDeployed: () => boolean;
}

/** What a route is compiled against. */
export interface RouteWorld {
  readonly clusterDomain: string;
  /** A Gateway of the waypoint's class; undefined when there is none of ours by this name. */
  waypoint(namespace: string, name: string): RouteWaypoint | undefined;
  /** A core Service with its ports; undefined when there is none. */
  service(namespace: string, name: string): Service | undefined;
  /** The hosts of a ServiceEntry; none when there is no such entry. */
  entry?(namespace: string, name: string): readonly Service[];
  /** The host of a ServiceEntry that routes of `namespace` mean. */
  entryHost?(host: string, namespace: string): Service | undefined;
  /** Whether a ReferenceGrant allows the reference. */
  granted(from: ReferenceEnd, to: ReferenceEnd & { readonly name: string }): boolean;
  /** Why an expression is no RE2; undefined for one that is. */
  regexProblem(pattern: string): string | undefined;
}

/** A condition of a route's status, without what only its writer knows. */
export interface ParentCondition {
  readonly status: boolean;
  readonly reason: string;
  readonly message: string;
}

interface Fault extends Problem {
  readonly reason: string;
}

/** The reasons for refusing a part of a route. */
export type RefusalReason = 'UnsupportedValue' | 'IncompatibleFilters';
/** The reasons for not following a reference. */
export type UnresolvedReason = 'BackendNotFound' | 'RefNotPermitted' | 'InvalidKind';

const maxMessageChars = 2048;

/** One route while it is compiled: what is wrong with it adds up here. */
export class Compilation {
  readonly name: string;
  readonly kind: GatewayRouteKind;
  /** As problems name it. */
  readonly object: string;
  readonly namespace: string;
  readonly world: RouteWorld;
  /** `<namespace>/<name>` of the Service that all of the route's parents are; undefined where there are others. */
  onlyParent: string | undefined;
  readonly #notes: Problem[] = [];
  readonly #refusals: Fault[] = [];
  readonly #unresolved: Fault[] = [];

  constructor(kind: GatewayRouteKind, meta: Metadata, world: RouteWorld) {
    this.kind = kind;
    this.namespace = meta.namespace;
    this.world = world;
    this.name = `${kind}/${objectKey(meta)}`;
    this.object = `${kind} ${objectKey(meta)}`;
  }

  /** What the owner should know: it is told with the condition, and does not make it false. */
  note(field: string, message: string): void {
    this.#notes.push({ object: this.object, field, message });
  }

  /** The route is not accepted as it is written: what depends on the field answers errors. */
  refuse(field: string, message: string, reason: RefusalReason = 'UnsupportedValue'): void {
    this.#refusals.push({ object: this.object, field, message, reason });
  }

  unresolved(reason: UnresolvedReason, field: string, message: string): void {
    this.#unresolved.push({ object: this.object, field, message, reason });
  }

  /** Grows with every refusal, so that a rule can tell whether one of them is its own. */
  get refusals(): number {
    return this.#refusals.length;
  }

  get accepted(): ParentCondition {
    return this.acceptedFor('the route holds for this parent');
  }

  /** The same with other words for what it holds for. */
  acceptedFor(what: string): ParentCondition {
    const told = this.#notes.map((one) => `; ${one.field}: ${one.message}`).join('');
    return conditionOf(this.#refusals, 'Accepted', shortened(`${what}${told}`));
  }

  get resolvedRefs(): ParentCondition {
    return conditionOf(this.#unresolved, 'ResolvedRefs', 'every reference is resolved');
  }

  get problems(): readonly Problem[] {
    const refusals = this.#refusals.map(({ object, field, message }) => ({
      object,
      field,
      message,
    }));
    // What is not found may come, and a note closes nothing.
    const others = [...this.#unresolved, ...this.#notes].map(
      ({ object, field, message }): Problem => ({ object, field, message, admissible: true }),
    );
    return [...refusals, ...others];
  }
}

/** The first fault gives the reason, all of them the message. */
function conditionOf(
  faults: readonly Fault[],
  goodReason: string,
  goodMessage: string,
): ParentCondition {
  const [first] = faults;
  if (first === undefined) return { status: true, reason: goodReason, message: goodMessage };
  const message = faults.map((one) => `${one.field}: ${one.message}`).join('; ');
  return { status: false, reason: first.reason, message: shortened(message) };
}

function shortened(message: string): string {
  return message.length <= maxMessageChars ? message : `${message.slice(0, maxMessageChars - 1)}…`;
}

/** What a user wrote, safe to be put into a message. */
export function quoted(value: string): string {
  return JSON.stringify(value.slice(0, 100));
}

/** The text as a regular expression that matches exactly it, in RE2's syntax. */
export function escapeRegex(value: string): string {
  return value.replaceAll(/[\\^$.*+?()[\]{}|]/g, String.raw`\$&`);
}
