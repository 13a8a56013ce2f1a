import type { Hello, SnapshotUpdate, Upsert } from '@ambit/api';
import { beforeEach, describe, expect, test } from '@jest/globals';

import { Collection } from '../collections/collection.ts';
import { decodeProxyFrame } from './frames.ts';
import { Session } from './session.ts';
import { SnapshotState } from './state.ts';

type Type = Upsert['type'];

function upsert(type: Type, name: string, version: string, bytes = 0): Upsert {
  return { type, name, version, resource: { filling: 'x'.repeat(bytes) } } as unknown as Upsert;
}

function hello(held: Partial<Record<Type, readonly (readonly [string, string])[]>> = {}): Hello {
  return {
    kind: 'hello',
    schema: 1,
    program: 'ztunnel',
    node: 'n',
    instance: 'z',
    held: (Object.keys(held) as Type[]).map((type) => ({ type, versions: held[type] ?? [] })),
  };
}

describe('a session', () => {
  let outputs: Collection<Upsert>;
  let state: SnapshotState;
  let sent: SnapshotUpdate[];
  let rejected: string[];
  let tooBig: string[];
  let session: Session;
  const put = (type: Type, name: string, version: string, bytes?: number) =>
    outputs.set(`${type} ${name}`, upsert(type, name, version, bytes));
  const push = () => session.changed(state.takeChanged());
  const ack = (nonce: number) => session.answered({ kind: 'ack', nonce });
  const names = (update: SnapshotUpdate | undefined) => [
    ...(update?.upserts ?? []).map(({ type, name }) => `+${type} ${name}`),
    ...(update?.removals ?? []).map(({ type, name }) => `-${type} ${name}`),
  ];

  beforeEach(() => {
    outputs = new Collection<Upsert>('outputs');
    state = new SnapshotState([outputs]);
    sent = [];
    rejected = [];
    tooBig = [];
    session = new Session(
      {
        send: (frame) => sent.push(frame),
        maxFrameBytes: 4096,
        onRejected: ({ name }) => rejected.push(name),
        onTooBig: ({ name }) => tooBig.push(name),
      },
      state,
    );
    put('workload', 'w', '1');
    put('service', 's', '1');
    put('policy', 'p', '1');
    put('mesh', 'default', '1');
    state.takeChanged();
  });

  test('waits until all sources are known', () => {
    expect(session.hello(hello(), false)).toBe(true);
    expect(sent).toEqual([]);
    session.begin();
    expect(sent).toHaveLength(1);
  });
  test('begins with everything, what is named before what names it', () => {
    session.hello(hello(), true);
    expect(names(sent[0])).toEqual(['+mesh default', '+policy p', '+service s', '+workload w']);
    expect(sent[0]?.complete).toBe(true);
  });
  test('resumes with the difference', () => {
    session.hello(
      hello({
        workload: [
          ['w', '1'],
          ['gone', '1'],
        ],
        policy: [
          ['p', '0'],
          ['old', '1'],
        ],
        service: [['s', '1']],
      }),
      true,
    );
    expect(names(sent[0])).toEqual(['+mesh default', '+policy p', '-workload gone', '-policy old']);
  });
  test('says that it is complete even when nothing differs', () => {
    session.hello(
      hello({
        workload: [['w', '1']],
        policy: [['p', '1']],
        service: [['s', '1']],
        mesh: [['default', '1']],
      }),
      true,
    );
    expect(sent).toEqual([{ kind: 'update', nonce: 1, upserts: [], removals: [], complete: true }]);
  });
  test('does not greet twice', () => {
    session.hello(hello(), true);
    expect(session.hello(hello(), true)).toBe(false);
  });
  test('sends nothing more while an answer is owed, then the newest once', () => {
    session.hello(hello(), true);
    for (const version of ['2', '3', '4']) {
      put('workload', 'w', version);
      push();
    }
    put('service', 'new', '1');
    push();
    outputs.delete('service new');
    push();
    expect(sent).toHaveLength(1);
    expect(ack(1)).toBe(true);
    expect(sent).toHaveLength(2);
    expect(sent[1]?.upserts).toMatchObject([{ name: 'w', version: '4' }]);
    expect(sent[1]?.removals).toEqual([]);
  });
  test('cuts a large push into frames, each sent when the one before was answered, the last complete', () => {
    for (let index = 0; index < 10; index += 1) put('workload', `big-${index}`, '1', 1000);
    session.hello(hello(), true);
    for (let nonce = 1; !session.idle; nonce += 1) {
      expect(sent).toHaveLength(nonce);
      put('service', 'meanwhile', String(nonce));
      expect(ack(nonce)).toBe(true);
    }
    expect(sent.length).toBeGreaterThan(3);
    expect(sent.map((update) => update.complete)).toEqual([
      ...sent.slice(1).map(() => false),
      true,
    ]);
    expect(sent.every((update) => JSON.stringify(update).length <= 4096)).toBe(true);
    expect(sent.flatMap(names)).toHaveLength(14);
  });
  test('leaves out what no frame can carry, and says so', () => {
    put('workload', 'huge', '1', 5000);
    session.hello(hello(), true);
    expect(tooBig).toEqual(['huge']);
    expect(sent.flatMap(names)).toHaveLength(4);
  });
  test('what was refused is not sent again until it changes', () => {
    session.hello(hello(), true);
    session.answered({
      kind: 'nack',
      nonce: 1,
      rejected: [{ type: 'policy', name: 'p', reason: 'no' }],
    });
    expect(rejected).toEqual(['p']);
    expect(session.nacked.get('policy/p')).toBe('no');
    put('service', 's', '2');
    push();
    expect(names(sent[1])).toEqual(['+service s']);
    ack(2);
    put('policy', 'p', '2');
    push();
    expect(names(sent[2])).toEqual(['+policy p']);
    expect(session.nacked.size).toBe(0);
  });
  test('an answer to nothing ends it', () => {
    expect(ack(1)).toBe(false);
    session.hello(hello(), true);
    expect(ack(2)).toBe(false);
    expect(ack(0)).toBe(false);
  });
});

describe('a frame of a proxy', () => {
  test.each([
    ['no JSON', '{'],
    ['nothing', ''],
    ['a list', '[]'],
    ['null', 'null'],
    ['an unknown kind', '{"kind":"bye"}'],
    ['a hello without a node', '{"kind":"hello","schema":1,"program":"ztunnel","held":[]}'],
    [
      'a hello of an unknown program',
      '{"kind":"hello","schema":1,"program":"x","node":"n","held":[]}',
    ],
    [
      'a hello with versions that are no pairs',
      '{"kind":"hello","schema":1,"program":"ztunnel","node":"n","held":[{"type":"policy","versions":[1]}]}',
    ],
    ['an ack with a fraction', '{"kind":"ack","nonce":1.5}'],
    ['an ack without a number', '{"kind":"ack","nonce":"1"}'],
    ['a request without a number', '{"kind":"certificate-request","identity":"x","csr":"y"}'],
    ['a deep one', '['.repeat(50_000)],
  ])('%s is refused', (_name, data) => {
    expect(decodeProxyFrame(data).ok).toBe(false);
  });
  test('types of a newer proxy are passed over', () => {
    const data =
      '{"kind":"hello","schema":1,"program":"ztunnel","node":"n","held":[{"type":"__proto__","versions":[]},{"type":"comet","versions":[["a","1"]]}]}';
    expect(decodeProxyFrame(data)).toMatchObject({ ok: true, value: { held: [] } });
  });
});
