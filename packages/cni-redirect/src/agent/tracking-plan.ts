import type { IpAddress } from '@ambit/api';
import { formatSocketAddress } from '@ambit/api';
import type { Connection, OpenConnection, TrackedConnection } from '@ambit/core';
import type { Side } from './sockets.ts';
import { isCapturePort } from './sockets.ts';

/** More than so many of one pod are not told: the table of connections of a pod has room for others, too. */
export const maxTold = 16_384;

export interface TrackingPlan {
  readonly forget: readonly TrackedConnection[];
  readonly tell: readonly OpenConnection[];
}

/**
 * What connection tracking is to forget and to be told, for it to know the open connections of a pod as they are. Translated
 * ones are left alone: it sees all of those.
 */
export function planTracking(
  open: readonly OpenConnection[],
  known: readonly TrackedConnection[],
  addresses: readonly IpAddress[],
): TrackingPlan {
  const wanted = new Map(open.map((one) => [keyOf(one), one]));
  const untold = new Map(wanted);
  const forget = known.filter((one) => {
    const key = keyOf(one);
    if (one.translated || one.stage === 'other' || one.stage === wanted.get(key)?.stage) {
      untold.delete(key);
      return false;
    }
    const ends = [one.client, one.server];
    return (
      ends.some(({ ip }) => addresses.includes(ip)) && !ends.some(({ port }) => isCapturePort(port))
    );
  });
  return { forget, tell: [...untold.values()].slice(0, maxTold) };
}

/** Connections whose client appears with another port than its own, as a socket of either side has them. */
export function translatedSides(known: readonly TrackedConnection[]): Side[] {
  return known.flatMap(({ client, server, translated, answer }) =>
    translated
      ? [
          { own: answer.from, other: answer.to },
          { own: client, other: server },
        ]
      : [],
  );
}

/** The same whoever of the two began it: a connection that is seen in its midst seems to be begun by who speaks next. */
function keyOf({ client, server }: Connection): string {
  return [client, server].map(formatSocketAddress).sort().join(' ');
}
