import type { EnrolledPod, IpAddress } from '@ambit/api';
import type { Logger } from '@ambit/core';
import { MeshError, causeChain, createBackoff, netnsInode } from '@ambit/core';
import { renderClosedRules, renderPodRules, renderRemoval } from '../rules/index.ts';
import type { ProbeTarget } from '../rules/node.ts';
import { renderNodeRules } from '../rules/node.ts';
import { runInPod, runOnNode } from '../rules/run.ts';
import { isDrained } from './drained.ts';
import type { Enrolment, PodFacts } from './enrol.ts';
import { captureOf, decideEnrolment } from './enrol.ts';
import type { FoundNetns } from './netns-finder.ts';
import { findNetns, openByHostPath, owns } from './netns-finder.ts';
import type { PodRecord, PodRecords } from './records.ts';
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
  readonly logger: Logger;
}

/** What the plugin tells of a pod that starts. */
export interface StartingPod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly netns: string;
  readonly addresses: readonly IpAddress[];
}

/** How often a pod that left is asked whether its captured connections have ended. */
const drainCheckMs = 5_000;

interface Tracked {
  facts: PodFacts;
  enrolled: EnrolledPod | undefined;
  /** False for a pod that an agent before this one captured, until its rules have been put in place again. */
  verified: boolean;
  draining: NodeJS.Timeout | undefined;
  work: Promise<void>;
  retry: NodeJS.Timeout | undefined;
  readonly backoff: ReturnType<typeof createBackoff>;
}

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
  readonly #probeTargets = new Map<string, readonly ProbeTarget[]>();
  #nodeRules = Promise.resolve();
  #closed = false;

  constructor(options: PodsOptions) {
    this.#options = options;
    for (const record of options.records.all()) {
      if (record.enrolled !== undefined && isAlive(record))
        this.#restored.set(record.uid, record.enrolled);
    }
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
    this.#tracked.delete(facts.uid);
    this.#options.records.delete(facts.uid);
    if (tracked === undefined) return;
    clearTimeout(tracked.retry);
    clearTimeout(tracked.draining);
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

  /** The runtime starts a pod. Throws, and so fails the pod's sandbox, when an enrolled pod cannot be captured. */
  async starting(start: StartingPod): Promise<Enrolment> {
    const { netnsDir } = this.#options;
    const facts = await this.#verified(start);
    const found = openByHostPath(netnsDir, start.netns);
    try {
      assertOwns(found, start);
      this.#record(facts.uid, found, undefined);
      const decision = this.#decide(facts);
      const tracked = this.#track(facts);
      if (!decision.enrolled) return decision;
      const known = { ...facts, addresses: start.addresses };
      await this.#serially(tracked, async () => {
        await runInPod(found.netns, renderClosedRules(captureOf(known, start.addresses)));
        await this.#enrol(tracked, known, found);
      });
      return decision;
    } finally {
      found.netns.close();
    }
  }

  /** The runtime asks whether a running pod still is as it was set up. Throws when it is not. */
  async check(start: StartingPod): Promise<Enrolment> {
    const facts = await this.#verified(start);
    const found = openByHostPath(this.#options.netnsDir, start.netns);
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
    for (const { retry, draining } of this.#tracked.values()) {
      clearTimeout(retry);
      clearTimeout(draining);
    }
    await Promise.allSettled([...this.#tracked.values()].map(({ work }) => work));
  }

  #track(facts: PodFacts): Tracked {
    let tracked = this.#tracked.get(facts.uid);
    if (tracked === undefined) {
      tracked = {
        facts,
        enrolled: this.#restored.get(facts.uid),
        verified: false,
        draining: undefined,
        work: Promise.resolve(),
        retry: undefined,
        backoff: createBackoff(200, 10_000),
      };
      this.#tracked.set(facts.uid, tracked);
      this.#restored.delete(facts.uid);
    }
    return tracked;
  }

  #decide(facts: PodFacts): Enrolment {
    const { namespaceLabels, excludedNamespaces } = this.#options;
    return decideEnrolment(facts, namespaceLabels(facts.namespace), excludedNamespaces);
  }

  async #verified(start: StartingPod): Promise<PodFacts> {
    const facts = await this.#options.fetchPod(start.namespace, start.name);
    if (facts === undefined) {
      throw new MeshError(
        'agent/unknown-pod',
        `the API server knows no pod ${start.namespace}/${start.name} on this node`,
      );
    }
    if (start.uid !== '' && facts.uid !== start.uid) {
      throw new MeshError(
        'agent/other-pod',
        `pod ${start.namespace}/${start.name} has UID ${facts.uid}, not ${start.uid}`,
      );
    }
    return facts;
  }

  /** One thing at a time for each pod. */
  #serially(tracked: Tracked, work: () => Promise<void>): Promise<void> {
    const done = tracked.work.then(work);
    tracked.work = done.catch(() => undefined);
    return done;
  }

  #schedule(tracked: Tracked): void {
    clearTimeout(tracked.retry);
    void this.#serially(tracked, () => this.#reconcile(tracked)).then(
      () => tracked.backoff.reset(),
      (error: unknown) => {
        if (this.#closed) return;
        const waitMs = tracked.backoff.nextMs();
        const { namespace, name } = tracked.facts;
        this.#options.logger.warn(
          { pod: `${namespace}/${name}`, reason: causeChain(error), retryMs: Math.round(waitMs) },
          'pod not as its labels want it',
        );
        tracked.retry = setTimeout(() => this.#schedule(tracked), waitMs);
      },
    );
  }

  async #reconcile(tracked: Tracked): Promise<void> {
    const { facts } = tracked;
    if (this.#closed || facts.deleting || facts.addresses.length === 0) return;
    const wanted = this.#decide(facts).enrolled;
    const marked = facts.annotations.get('ambient.istio.io/redirection') === 'enabled';
    if (wanted && tracked.enrolled === undefined) {
      const found = findNetns(this.#options.netnsDir, this.#options.records, facts);
      if (found === undefined)
        throw new MeshError('agent/no-netns', 'the network namespace of the pod was not found');
      try {
        await this.#enrol(tracked, facts, found);
      } finally {
        found.netns.close();
      }
    } else if (wanted && !tracked.verified) {
      await this.#verify(tracked, facts);
    } else if (wanted && !marked) {
      await this.#options.annotate(facts, true);
    } else if (!wanted && (tracked.enrolled !== undefined || marked)) {
      await this.#release(tracked, facts);
    }
  }

  /** Puts the rules of a pod that was captured before this agent began in place again; open connections go on. */
  async #verify(tracked: Tracked, facts: PodFacts): Promise<void> {
    const found = findNetns(this.#options.netnsDir, this.#options.records, facts);
    if (found === undefined)
      throw new MeshError('agent/no-netns', 'the network namespace of the pod was not found');
    try {
      await this.#writeProbeTargets(facts);
      await runInPod(found.netns, renderPodRules(captureOf(facts, facts.addresses)));
      tracked.verified = true;
    } finally {
      found.netns.close();
    }
    await this.#options.annotate(facts, true);
  }

  async #enrol(tracked: Tracked, facts: PodFacts, found: FoundNetns): Promise<void> {
    const { logger, ztunnel, annotate } = this.#options;
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
    await this.#writeProbeTargets(facts);
    await runInPod(found.netns, renderPodRules(captureOf(facts, facts.addresses)));
    tracked.enrolled = pod;
    tracked.verified = true;
    this.#record(facts.uid, found, pod);
    logger.info({ pod: `${facts.namespace}/${facts.name}` }, 'pod captured');
    // A pod that starts is told of by its status a moment later; until the mark is there clients speak plain text to it.
    void annotate(facts, true).catch((error: unknown) => {
      logger.warn(
        { pod: `${facts.namespace}/${facts.name}`, reason: causeChain(error) },
        'pod not annotated',
      );
      tracked.retry = setTimeout(() => this.#schedule(tracked), tracked.backoff.nextMs());
    });
  }

  async #release(tracked: Tracked, facts: PodFacts): Promise<void> {
    const { logger, ztunnel, annotate, records, netnsDir, releaseGraceMs } = this.#options;
    await annotate(facts, false);
    await new Promise((resolve) => setTimeout(resolve, releaseGraceMs));
    const found = findNetns(netnsDir, records, facts);
    if (found !== undefined) {
      try {
        await runInPod(found.netns, renderRemoval('drain'));
        this.#record(facts.uid, found, undefined);
      } finally {
        found.netns.close();
      }
    }
    tracked.enrolled = undefined;
    await ztunnel().remove(facts.uid, 'released');
    this.#probeTargets.delete(facts.uid);
    await this.#writeNodeRules();
    this.#deleteRulesOnceDrained(tracked);
    logger.info({ pod: `${facts.namespace}/${facts.name}` }, 'pod released');
  }

  /** Connections that were redirected need the translation for as long as they live. */
  #deleteRulesOnceDrained(tracked: Tracked): void {
    tracked.draining = setTimeout(() => {
      this.#serially(tracked, async () => {
        if (this.#closed || tracked.enrolled !== undefined) return;
        const found = findNetns(this.#options.netnsDir, this.#options.records, tracked.facts);
        if (found === undefined) return;
        try {
          if (isDrained(found.netns)) await runInPod(found.netns, renderRemoval('delete'));
          else this.#deleteRulesOnceDrained(tracked);
        } finally {
          found.netns.close();
        }
      }).catch((error: unknown) => {
        this.#options.logger.warn({ reason: causeChain(error) }, 'rules of a pod not deleted');
      });
    }, drainCheckMs);
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

  #writeProbeTargets(facts: PodFacts): Promise<void> {
    const targets = facts.addresses.flatMap((ip) => facts.probePorts.map((port) => ({ ip, port })));
    this.#probeTargets.set(facts.uid, targets);
    return this.#writeNodeRules();
  }

  async #forget(tracked: Tracked): Promise<void> {
    // ztunnel lingers for a pod that was released.
    if (tracked.enrolled === undefined && tracked.draining === undefined) return;
    tracked.enrolled = undefined;
    try {
      this.#probeTargets.delete(tracked.facts.uid);
      await this.#options.ztunnel().remove(tracked.facts.uid, 'deleted');
      await this.#writeNodeRules();
    } catch (error) {
      this.#options.logger.warn({ reason: causeChain(error) }, 'a pod that is gone was not let go');
    }
  }

  #writeNodeRules(): Promise<void> {
    const targets = [...this.#probeTargets.values()].flat();
    const write = this.#nodeRules.then(() => runOnNode(renderNodeRules(targets)));
    this.#nodeRules = write.catch(() => undefined);
    return write;
  }
}

function assertOwns(found: FoundNetns, { netns, namespace, name, addresses }: StartingPod): void {
  if (owns(found, addresses)) return;
  throw new MeshError(
    'agent/foreign-netns',
    `${netns} lacks the addresses of pod ${namespace}/${name}`,
  );
}

function isAlive({ inode, enrolled }: PodRecord): boolean {
  try {
    return enrolled !== undefined && netnsInode(enrolled.netns.path) === inode;
  } catch {
    return false;
  }
}
