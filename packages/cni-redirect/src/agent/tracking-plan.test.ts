import { describe, expect, test } from '@jest/globals';
import type { IpAddress, SocketAddress } from '@ambit/api';
import { parseSocketAddress } from '@ambit/api';
import type { ConnectionStage, OpenConnection, TrackedConnection } from '@ambit/core';
import { maxTold, planTracking, translatedSides } from './tracking-plan.ts';

const pod = ['10.0.0.2' as IpAddress];

function at(text: string): SocketAddress {
  const address = parseSocketAddress(text);
  if (!address.ok) throw new Error(address.error.message);
  return address.value;
}

function open(
  client: string,
  server: string,
  stage: ConnectionStage = 'established',
): OpenConnection {
  return { client: at(client), server: at(server), stage };
}

function known(
  client: string,
  server: string,
  more: Partial<TrackedConnection> = {},
): TrackedConnection {
  const [from, to] = [at(server), at(client)];
  return {
    client: to,
    server: from,
    stage: 'established',
    answer: { from, to },
    translated: false,
    handle: Buffer.alloc(0),
    ...more,
  };
}

describe('connection tracking', () => {
  const one = open('10.0.0.9:4000', '10.0.0.2:80');

  test('is told of what it does not know', () => {
    expect(planTracking([one], [], pod)).toEqual({ forget: [], tell: [one] });
  });

  test('is left alone with what it knows, whoever spoke first', () => {
    const entries = [known('10.0.0.2:80', '10.0.0.9:4000')];
    expect(planTracking([one], entries, pod)).toEqual({ forget: [], tell: [] });
  });

  test('is told anew of what has come nearer its end unseen', () => {
    const ending = open('10.0.0.9:4000', '10.0.0.2:80', 'close-wait');
    const entries = [known('10.0.0.9:4000', '10.0.0.2:80')];
    expect(planTracking([ending], entries, pod)).toEqual({ forget: entries, tell: [ending] });
  });

  test.each(['established', 'close-wait', 'asked'] as const)(
    'forgets what it believes %s and nobody has',
    (stage) => {
      const entries = [known('10.0.0.9:4000', '10.0.0.2:80', { stage })];
      expect(planTracking([], entries, pod)).toEqual({ forget: entries, tell: [] });
    },
  );

  test.each([
    ['has a translated port', known('10.0.0.9:4000', '10.0.0.2:80', { translated: true })],
    ['is being accepted or has ended', known('10.0.0.9:4000', '10.0.0.2:80', { stage: 'other' })],
    ['is the proxy’s', known('10.0.0.9:4000', '10.0.0.2:15008')],
    ['goes through the pod to others', known('10.0.0.9:4000', '10.0.0.7:80')],
  ])('does not forget what %s', (_, entry) => {
    expect(planTracking([], [entry], pod).forget).toEqual([]);
  });

  test('is not told of more than there is room for', () => {
    const many = Array.from({ length: maxTold + 1 }, (_, index) =>
      open(`10.1.${index >> 8}.${index & 255}:4000`, '10.0.0.2:80'),
    );
    expect(planTracking(many, [], pod).tell).toHaveLength(maxTold);
  });
});

test('a translated connection is found by the ports that the application sees, and by the client’s own', () => {
  const answer = { from: at('10.0.0.2:80'), to: at('10.0.0.9:1024') };
  const entries = [
    known('10.0.0.9:4000', '10.0.0.2:80', { translated: true, answer }),
    known('10.0.0.9:1', '10.0.0.2:80'),
  ];
  expect(translatedSides(entries)).toEqual([
    { own: at('10.0.0.2:80'), other: at('10.0.0.9:1024') },
    { own: at('10.0.0.9:4000'), other: at('10.0.0.2:80') },
  ]);
});
