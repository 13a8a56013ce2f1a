import { field, text } from '../kube/decode/fields.ts';

/** Lease of who writes what bears no revision. */
export const defaultLeaseName = 'ambit-controller';

/** A Lease of coordination.k8s.io/v1 as far as an election looks into it. */
export interface LeaseRecord {
  /** Empty when nobody holds it. */
  readonly holder: string;
  readonly durationMs: number;
  /** Grows with every change of hands: the fencing token of whoever holds it. */
  readonly transitions: number;
  readonly resourceVersion: string;
  /** What changes when it is renewed; whose clock wrote it does not matter. */
  readonly renewTime: string;
  readonly acquireTime: string;
}

export function readLease(object: unknown): LeaseRecord {
  const spec = field(object, 'spec');
  const seconds = field(spec, 'leaseDurationSeconds');
  const transitions = field(spec, 'leaseTransitions');
  return {
    holder: text(field(spec, 'holderIdentity')),
    durationMs: (typeof seconds === 'number' && seconds > 0 ? seconds : 1) * 1000,
    transitions: typeof transitions === 'number' && transitions > 0 ? transitions : 0,
    resourceVersion: text(field(object, 'metadata', 'resourceVersion')),
    renewTime: text(field(spec, 'renewTime')),
    acquireTime: text(field(spec, 'acquireTime')),
  };
}

/** When a record was first seen as it is, by a clock of our own that only goes forward. */
export interface Seen {
  readonly record: LeaseRecord;
  readonly sinceMs: number;
}

/** Pure: whether the lease may be taken. A holder that does not renew is given up after the time that it asked for. */
export function isFree({ record, sinceMs }: Seen, nowMs: number): boolean {
  return record.holder === '' || nowMs - sinceMs >= record.durationMs;
}

/** Pure: a record after another look at the lease; the time starts again with every renewal. */
export function seenAgain(before: Seen | undefined, record: LeaseRecord, nowMs: number): Seen {
  const same =
    before?.record.holder === record.holder &&
    before.record.renewTime === record.renewTime &&
    before.record.resourceVersion === record.resourceVersion;
  return same ? { record, sinceMs: before.sinceMs } : { record, sinceMs: nowMs };
}

/** MicroTime, as the API has it. */
export function microTime(nowMs: number): string {
  return new Date(nowMs).toISOString().replace(/Z$/, '000Z');
}
