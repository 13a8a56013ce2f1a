import type { EnrolledPod } from '@ambit/api';
import type { Logger } from '@ambit/core';
import { MeshError, causeChain, errnoCode } from '@ambit/core';
import { renderClosedRules, renderPodRules, renderRemoval } from '../rules/index.ts';
import { RulesInForce } from '../rules/in-force.ts';
import { runInPod } from '../rules/run.ts';
import { ConnectionTracking } from './connection-tracking.ts';
import { Draining } from './draining.ts';
import type { Enrolment, PodFacts } from './enrol.ts';
import { captureOf, decideEnrolment, isMarked, isRunning } from './enrol.ts';
import { FirstLook } from './first-look.ts';
import type { FoundNetns } from './netns-finder.ts';
import { assertOwns, findNetns, openByHostPath } from './netns-finder.ts';
import type { Observer } from './observe.ts';
import { nameOf } from './observe.ts';
import { Patrol } from './patrol.ts';
import { ProbeRules } from './probe-rules.ts';
import type { PodRecord, PodRecords } from './records.ts';
import { isAlive } from './records.ts';
import { isListening } from './sockets.ts';
import type { StartingPod } from './starting.ts';
import { factsOf, untilReady } from './starting.ts';
import type { Tracked } from './tracked.ts';
import { isBound, trackedOf } from './tracked.ts';
import type { ZtunnelServer } from './ztunnel-server.ts';

export interface PodsOptions {
  readonly netnsDir: string;
  readonly excludedNamespaces: readonly string[];
  readonly releaseGraceMs: number;
  readonly records: PodRecords;
  readonly ztunnel: () => ZtunnelServer;
  readonly namespaceLabels: (namespace: string) => ReadonlyMap<string, string>;
  /** The pod as the API server knows it now; undefined where it knows none. */
  readonly fetchPod: (namespace: string, name: string) => Promise<PodFacts | undefined>;
  /** Writes or removes `ambient.istio.io/redirection` on the pod. */
  readonly annotate: (pod: PodFacts, enabled: boolean) => Promise<void>;
  readonly observer: Observer;
  readonly logger: Logger;
}

/** How often one of the captured pods is looked at: rules can be changed by whoever has CAP_NET_ADMIN in a pod. */
const patrolPace = { roundMs: 60_000, minMs: 1_000, maxMs: 5_000 };
/**
 * Brings each pod of the node to where its labels want it. Order is what loses no request: listeners, rules,
 * annotation on the way in; annotation, grace, rules, listeners on the way out. Clients are told by the annotation
 * (through the controller), so they speak HBONE only to a pod that is ready for it, and for the grace to one that
 * no longer is.
 */
export class Pods {
  readonly #options: PodsOptions;
  readonly #tracked = new Map<string, Tracked>();
  /** Pods captured by an agent before this one, which the API server has not yet been asked about. */
  readonly #restored = new Map<string, EnrolledPod>();
  readonly #probes = new ProbeRules();
  readonly #inForce: RulesInForce;
  readonly #tracking: ConnectionTracking;
  /** While something is missing the node is not ready, and pods of the mesh do not start. */
  readonly firstLook = new FirstLook((except) => this.#unsettled(except));
  readonly #patrol: Patrol<Tracked>;
  readonly #draining: Draining;
  #closed = false;
  #leaving = false;

  constructor(options: PodsOptions) {
    this.#options = options;
    this.#inForce = new RulesInForce(options.logger);
    this.#tracking = new ConnectionTracking(options.logger);
    this.#draining = new Draining({
      ...options,
      tracking: this.#tracking,
      inTurn: (uid, work) => this.#inTurn(uid, work),
    });
    for (const record of options.records.all()) {
      if (record.enrolled !== undefined && isAlive(record))
        this.#restored.set(record.uid, record.enrolled);
    }
    const captured = (): Tracked[] =>
      [...this.#tracked.values()].filter(({ verified }) => verified);
    const look = (tracked: Tracked): void =>
      void this.#serially(tracked, () => this.#look(tracked)).catch((error: unknown) =>
        options.logger.debug({ reason: causeChain(error) }, 'a pod could not be looked at'),
      );
    this.#patrol = new Patrol(patrolPace, captured, ({ facts }) => facts.uid, look);
  }

  /** What a ztunnel is told when it connects. It drops every other pod, so this must never lack one. */
  enrolled(): EnrolledPod[] {
    const tracked = [...this.#tracked.values()].flatMap(({ enrolled }) => enrolled ?? []);
    return [...this.#restored.values(), ...tracked];
  }

  /** All pods of the node; others are gone. */
  replace(pods: readonly PodFacts[]): void {
    const uids = new Set(pods.map(({ uid }) => uid));
    for (const [uid, { facts }] of [...this.#tracked]) if (!uids.has(uid)) this.gone(facts);
    for (const pod of pods)
      if (isRunning(pod) && (this.#restored.has(pod.uid) || isMarked(pod))) this.#probes.know(pod);
    for (const pod of pods) this.seen(pod);
    for (const uid of this.#restored.keys()) this.#forgetRestored(uid);
  }

  seen(facts: PodFacts): void {
    const tracked = this.#track(facts);
    tracked.facts = facts;
    this.#schedule(tracked);
  }

  gone(facts: PodFacts): void {
    const tracked = this.#tracked.get(facts.uid);
    const drains = this.#draining.has(facts.uid);
    this.#tracked.delete(facts.uid);
    this.#options.records.delete(facts.uid);
    this.#draining.forget(facts.uid);
    this.#options.observer.gone(facts);
    if (tracked === undefined) return;
    clearTimeout(tracked.retry);
    tracked.released ||= drains;
    tracked.work = tracked.work.then(() => this.#forget(tracked));
  }

  namespaceChanged(namespace: string): void {
    for (const tracked of this.#tracked.values())
      if (tracked.facts.namespace === namespace) this.#schedule(tracked);
  }

  /** A ztunnel connected: pods that waited for one can go on. */
  retryAll(): void {
    for (const tracked of this.#tracked.values()) this.#schedule(tracked);
  }

  /** A ztunnel that was told of a pod could not take it. */
  refused(uid: string): void {
    const tracked = this.#tracked.get(uid);
    if (tracked === undefined) return;
    tracked.verified = false;
    this.#schedule(tracked);
  }

  /**
   * Pods that are to be in the mesh and of which it is not yet known, since this agent began, that they are, or that
   * nothing of theirs goes on outside it.
   */
  #unsettled(except: string | undefined): string[] {
    const tracked = [...this.#tracked.values()].filter(
      ({ facts, settled }) => !settled && isRunning(facts) && this.#decide(facts).enrolled,
    );
    return [...tracked.map(({ facts }) => facts), ...this.#restored.values()]
      .filter(({ uid }) => uid !== except)
      .map(nameOf);
  }

  /** How many pods are in the mesh, and how many are to be and are not. */
  counts(): { readonly captured: number; readonly waiting: number } {
    const tracked = [...this.#tracked.values()];
    const captured = tracked.filter(({ verified }) => verified).length;
    const wanted = tracked.filter(
      ({ facts, verified }) => !verified && isRunning(facts) && this.#decide(facts).enrolled,
    );
    return { captured, waiting: wanted.length };
  }

  /**
   * The mesh leaves the node: every pod is let go at once, in the order of a single one, and its rules are deleted when
   * its connections have ended. With `force` they are deleted after that time in any case, and the connections with them.
   */
  async leave(drainMs: number, force: boolean): Promise<void> {
    this.#leaving = true;
    // What is under way for a pod comes first, and may just capture it.
    const uids = new Set([...this.#tracked.keys(), ...this.#draining.uids()]);
    const left = [...uids].map((uid) =>
      this.#inTurn(uid, async () => {
        const tracked = this.#tracked.get(uid);
        clearTimeout(tracked?.retry);
        if (tracked !== undefined && isBound(tracked)) await this.#release(tracked, tracked.facts);
        await this.#draining.end(uid, drainMs, force);
      }),
    );
    for (const outcome of await Promise.allSettled(left)) {
      if (outcome.status === 'fulfilled') continue;
      if (!force)
        throw new MeshError('agent/not-released', 'a pod was not let go', {
          cause: outcome.reason,
        });
      this.#options.logger.warn({ reason: causeChain(outcome.reason) }, 'a pod was not let go');
    }
  }

  /** The runtime starts a pod. Throws, and so fails the pod's sandbox, when an enrolled pod cannot be captured. */
  async starting(start: StartingPod): Promise<Enrolment> {
    const { netnsDir, ztunnel } = this.#options;
    this.#assertOpen();
    const facts = await factsOf(start, this.#options.fetchPod);
    const found = openByHostPath(netnsDir, start);
    try {
      assertOwns(found, start);
      this.#assertOpen();
      const before = this.#options.records.get(facts.uid);
      // Asked for a second time it is not as if it never had been captured.
      if (before?.inode !== found.netns.inode) this.#record(facts.uid, found, undefined);
      const decision = this.#decide(facts);
      const tracked = this.#track(facts);
      if (!decision.enrolled) return decision;
      const known = { ...facts, addresses: start.addresses };
      await this.#serially(tracked, () => {
        this.#assertOpen();
        return runInPod(found.netns, renderClosedRules(captureOf(known, start.addresses)));
      });
      // Not one after the other with the rest of this pod's work, which may have to be done first.
      await untilReady(facts.uid, ztunnel(), this.firstLook, () => this.#assertOpen());
      await this.#serially(tracked, () => this.#enrol(tracked, known, found));
      return decision;
    } finally {
      found.netns.close();
    }
  }

  /** The runtime asks whether a running pod still is as it was set up. Throws when it is not. */
  async check(start: StartingPod): Promise<Enrolment> {
    const facts = await factsOf(start, this.#options.fetchPod);
    const found = openByHostPath(this.#options.netnsDir, start);
    try {
      assertOwns(found, start);
      const decision = this.#decide(facts);
      const captured = this.#tracked.get(facts.uid)?.enrolled?.netns.inode === found.netns.inode;
      if (decision.enrolled && !captured)
        throw new MeshError('agent/not-captured', 'it is to be in the mesh and is not captured');
      return decision;
    } finally {
      found.netns.close();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#patrol.close();
    for (const { retry } of this.#tracked.values()) clearTimeout(retry);
    await this.#draining.close();
    await Promise.allSettled([...this.#tracked.values()].map(({ work }) => work));
    this.#options.records.close();
  }

  /** What has begun before the end and is carried out after it would be done beside the next agent, or undo the leaving. */
  #assertOpen(): void {
    if (this.#leaving) throw new MeshError('agent/leaving', 'the mesh is leaving this node');
    if (this.#closed)
      throw new MeshError('agent/ending', 'the agent of this node is being replaced');
  }

  /** The mesh was leaving before this agent began: it captures none. */
  beginLeaving(): void {
    this.#leaving = true;
  }

  /** The mesh stays after all. */
  stay(): void {
    this.#leaving = false;
    this.retryAll();
  }

  #track(facts: PodFacts): Tracked {
    let tracked = this.#tracked.get(facts.uid);
    if (tracked === undefined) {
      tracked = trackedOf(facts, this.#restored.get(facts.uid));
      this.#tracked.set(facts.uid, tracked);
      this.#restored.delete(facts.uid);
    }
    return tracked;
  }

  #decide(facts: PodFacts): Enrolment {
    const { namespaceLabels, excludedNamespaces } = this.#options;
    return decideEnrolment(facts, namespaceLabels(facts.namespace), excludedNamespaces);
  }

  #serially(tracked: Tracked, work: () => Promise<void>): Promise<void> {
    const done = tracked.work.then(work);
    tracked.work = done.catch(() => undefined);
    return done;
  }

  #inTurn(uid: string, work: () => Promise<void>): Promise<void> {
    const tracked = this.#tracked.get(uid);
    return tracked === undefined ? work() : this.#serially(tracked, work);
  }

  #schedule(tracked: Tracked): void {
    if (this.#leaving) return;
    clearTimeout(tracked.retry);
    void this.#serially(tracked, () => this.#reconcile(tracked)).then(
      () => {
        tracked.backoff.reset();
        tracked.settled ||= isRunning(tracked.facts);
      },
      (error: unknown) => {
        if (this.#closed || this.#leaving) return;
        const nothingThere = errnoCode(error) === 'agent/no-netns';
        // What never was in the mesh goes on as it did.
        const isAsItWas = tracked.closed || nothingThere || !isMarked(tracked.facts);
        if (this.#options.ztunnel().connected) tracked.settled ||= isAsItWas;
        const waitMs = tracked.backoff.nextMs();
        this.#options.observer.failed(tracked.facts, error, waitMs);
        tracked.retry = setTimeout(() => this.#schedule(tracked), waitMs);
      },
    );
  }

  async #reconcile(tracked: Tracked): Promise<void> {
    const { facts } = tracked;
    if (this.#closed || this.#leaving || !isRunning(facts)) return;
    const wanted = this.#decide(facts).enrolled;
    const marked = isMarked(facts);
    if (wanted && !tracked.verified) {
      const found = this.#find(tracked);
      try {
        if (tracked.enrolled === undefined) await this.#capture(tracked, facts, found);
        else await this.#verify(tracked, facts, tracked.enrolled, found);
      } finally {
        found.netns.close();
      }
    } else if (wanted && !marked) {
      await this.#options.annotate(facts, true);
    } else if (!wanted && (tracked.enrolled !== undefined || marked)) {
      await this.#release(tracked, facts);
    }
  }

  #find({ facts }: Tracked): FoundNetns {
    const { netnsDir, records } = this.#options;
    // After a restart of the node an old status may name an address that another pod has by now.
    const claimants = [...this.#tracked.values()].filter(
      (other) =>
        isRunning(other.facts) &&
        !other.facts.hostNetwork &&
        other.facts.addresses.some((ip) => facts.addresses.includes(ip)),
    );
    const found =
      claimants.length > 1 && records.get(facts.uid) === undefined
        ? undefined
        : findNetns(netnsDir, records, facts);
    if (found !== undefined) return found;
    throw new MeshError('agent/no-netns', 'the network namespace of the pod was not found');
  }

  /** A running pod joins. One that was in the mesh before must not go on in plain text until it is in it again. */
  async #capture(tracked: Tracked, facts: PodFacts, found: FoundNetns): Promise<void> {
    if (isMarked(facts)) {
      const { nft } = renderPodRules(captureOf(facts, facts.addresses));
      const state = await this.#inForce.stateOf(found.netns, nft);
      if (state === 'gone') this.#options.observer.lost(facts, 'rules');
      this.#assertOpen();
      // Others can be those of an agent of another version.
      if (state !== 'in-force')
        await runInPod(found.netns, renderClosedRules(captureOf(facts, facts.addresses)));
      tracked.closed = true;
    }
    await this.#enrol(tracked, facts, found);
  }

  /** Looks whether a captured pod is, and puts its rules in place again; open connections go on. */
  async #verify(
    tracked: Tracked,
    facts: PodFacts,
    pod: EnrolledPod,
    found: FoundNetns,
  ): Promise<void> {
    const { annotate, observer, ztunnel } = this.#options;
    const rules = renderPodRules(captureOf(facts, facts.addresses));
    const state = await this.#inForce.stateOf(found.netns, rules.nft);
    if (state === 'gone') observer.lost(facts, 'rules');
    await runInPod(found.netns, rules);
    if (state !== 'in-force') await this.#tracking.makeKnown(found.netns, facts.addresses);
    tracked.rules = rules.nft;
    tracked.closed = true;
    await this.#probes.set(facts);
    if (!isMarked(facts)) await annotate(facts, true);
    if (!isListening(found.netns)) {
      await ztunnel().add(pod);
      if (!isListening(found.netns))
        throw new MeshError(
          'agent/not-listening',
          'ztunnel took the pod and does not listen in it',
        );
    }
    tracked.verified = true;
  }

  async #look(tracked: Tracked): Promise<void> {
    const { facts } = tracked;
    if (!tracked.verified || this.#closed || this.#leaving || !isRunning(facts)) return;
    const found = this.#find(tracked);
    try {
      const rules = await this.#inForce.stateOf(found.netns, tracked.rules);
      const listening = isListening(found.netns) || !this.#options.ztunnel().connected;
      if (rules === 'in-force' && listening) return;
      if (rules === 'changed') this.#options.observer.lost(facts, 'changed');
      if (rules === 'in-force') this.#options.observer.lost(facts, 'listeners');
    } finally {
      found.netns.close();
    }
    tracked.verified = false;
    this.#schedule(tracked);
  }

  async #enrol(tracked: Tracked, facts: PodFacts, found: FoundNetns): Promise<void> {
    const { logger, observer, ztunnel, annotate } = this.#options;
    this.#assertOpen();
    const pod: EnrolledPod = {
      uid: facts.uid,
      name: facts.name,
      namespace: facts.namespace,
      serviceAccount: facts.serviceAccount,
      addresses: facts.addresses,
      netns: { path: found.path, inode: found.netns.inode },
    };
    await ztunnel().add(pod);
    // Before the pod's own rules, so that no probe fails in between.
    await this.#probes.set(facts);
    const rules = renderPodRules(captureOf(facts, facts.addresses));
    await runInPod(found.netns, rules);
    await this.#tracking.makeKnown(found.netns, facts.addresses);
    tracked.rules = rules.nft;
    tracked.enrolled = pod;
    tracked.verified = true;
    tracked.closed = true;
    tracked.released = false;
    this.#draining.forget(facts.uid);
    this.#record(facts.uid, found, pod);
    observer.captured(facts);
    // A pod that starts is told of by its status a moment later; until the mark is there clients speak plain text to it.
    tracked.marking = annotate(facts, true).catch((error: unknown) => {
      logger.warn({ pod: nameOf(facts), reason: causeChain(error) }, 'pod not annotated');
      tracked.retry = setTimeout(() => this.#schedule(tracked), tracked.backoff.nextMs());
    });
  }

  async #release(tracked: Tracked, facts: PodFacts): Promise<void> {
    const { logger, observer, ztunnel, annotate, records, netnsDir, releaseGraceMs } =
      this.#options;
    // Whichever comes last holds.
    await tracked.marking;
    try {
      await annotate(facts, false);
      await new Promise((resolve) => setTimeout(resolve, releaseGraceMs));
    } catch (error) {
      // When the mesh is uninstalled, so are the agent's permissions: the pod must be let go all the same.
      if (!this.#leaving) throw error;
      logger.warn({ pod: nameOf(facts), reason: causeChain(error) }, 'pod not annotated');
    }
    const found = findNetns(netnsDir, records, facts);
    if (found !== undefined) {
      try {
        await runInPod(found.netns, renderRemoval('drain'));
        this.#draining.begin(facts.uid, found);
      } finally {
        found.netns.close();
      }
    }
    tracked.enrolled = undefined;
    tracked.verified = false;
    tracked.closed = false;
    tracked.released = true;
    await ztunnel().remove(facts.uid, 'released');
    await this.#probes.delete(facts.uid);
    observer.released(facts);
  }

  #record(uid: string, found: FoundNetns, enrolled: EnrolledPod | undefined): void {
    const netns = found.path.slice(found.path.lastIndexOf('/') + 1);
    const record: PodRecord = { uid, netns, inode: found.netns.inode };
    this.#options.records.set(enrolled === undefined ? record : { ...record, enrolled });
  }

  #forgetRestored(uid: string): void {
    this.#restored.delete(uid);
    this.#options.records.delete(uid);
    const told = this.#options.ztunnel().remove(uid, 'deleted');
    told.catch((error: unknown) => {
      this.#options.logger.warn({ reason: causeChain(error) }, 'a pod that is gone was not let go');
    });
  }

  async #forget(tracked: Tracked): Promise<void> {
    const { enrolled, released, facts } = tracked;
    tracked.enrolled = undefined;
    try {
      if (enrolled !== undefined || released)
        await this.#options.ztunnel().remove(facts.uid, 'deleted');
      await this.#probes.delete(facts.uid);
    } catch (error) {
      this.#options.logger.warn({ reason: causeChain(error) }, 'a pod that is gone was not let go');
    }
  }
}
