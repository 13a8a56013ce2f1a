// npm run bench:compile [-- ROUNDS [ROW]]: what one change costs the compiler of the controller, beside few objects and
// beside many.
import { renderMarkdown } from '../table.ts';
import type { Row } from './rows.ts';
import { rowsOf } from './rows.ts';
import type { Cost, KubeObject, Scale, World } from './world.ts';
import { createWorld, fill, podOf } from './world.ts';

const scale: Scale = { services: 1000, podsOfService: 10, namespaces: 10 };
const few = 100;
const many = 1000;
/** A change is to reach every proxy within this; one of which very many resources are made may take longer. */
const goalMs = 100;
const goalPushed = 100;

const rounds = Number(process.argv[2] ?? 11);
const only = process.argv[3] ?? '';

interface Change {
  readonly name: string;
  readonly run: (to: World, row: Row, count: number, round: number) => void;
}

const changes: readonly Change[] = [
  { name: 'a pod', run: (world, _row, _count, round) => world.put(podOf(7, scale, `v${round}`)) },
  {
    name: 'the oldest of them',
    run: (world, row, _count, round) => putAll(world, row.objects(0, 1 + (round % 2))),
  },
  {
    name: 'the newest',
    run: (world, row, count, round) => putAll(world, row.objects(count - 1, 1 + (round % 2))),
  },
  { name: 'the oldest comes or goes', run: (to, row, _count, round) => flip(to, row, 0, round) },
  {
    name: 'the newest comes or goes',
    run: (to, row, count, round) => flip(to, row, count - 1, round),
  },
];

const world = createWorld();
fill(world, scale);
const { ms: wholeMs, pushed } = world.flush();
say(`${pushed} resources compiled in ${wholeMs.toFixed(0)} ms; each change ${rounds} times`);
const lines: string[][] = [];
let slow = 0;
for (const row of rowsOf(scale).filter(({ name }) => name.includes(only))) {
  const before = measure(row, 0, few);
  const after = measure(row, few, many);
  for (let index = 0; index < many; index += 1) removeAll(world, row.objects(index, 0));
  world.flush();
  for (const [index, { name }] of changes.entries()) {
    const [small, large] = [before[index], after[index]];
    if (small === undefined || large === undefined) continue;
    const isSlow = large.ms > goalMs && large.pushed <= goalPushed;
    if (isSlow) slow += 1;
    lines.push([
      row.name,
      name,
      `${small.ms.toFixed(2)} ms`,
      `${large.ms.toFixed(2)} ms${isSlow ? ' !' : ''}`,
      `${(large.ms / small.ms).toFixed(1)}×`,
      `${small.computed}, ${large.computed}`,
      `${small.pushed}, ${large.pushed}`,
    ]);
  }
  say(`${row.name}: done`);
}
const head = [
  'beside',
  'what changes',
  `${few} of them`,
  String(many),
  'ratio',
  'computed',
  'pushed',
];
say(`\n${renderMarkdown([head, ...lines])}`);
if (slow > 0) {
  say(`\n${slow} changes of no more than ${goalPushed} resources take more than ${goalMs} ms`);
  process.exitCode = 1;
}

/** Adds objects until there are `count`; the median of each change. */
function measure(row: Row, from: number, count: number): readonly Cost[] {
  for (let index = from; index < count; index += 1) putAll(world, row.objects(index, 0));
  world.flush();
  return changes.map(({ run }) => {
    const costs: Cost[] = [];
    // The first warms up; an even number, so that what comes and goes is there at the end.
    for (let round = 0; round < rounds + 1 + (rounds % 2 === 0 ? 1 : 0); round += 1) {
      run(world, row, count, round);
      const cost = world.flush();
      if (round > 0) costs.push(cost);
    }
    costs.sort((left, right) => left.ms - right.ms);
    return costs[costs.length >> 1] ?? { ms: 0, computed: 0, pushed: 0 };
  });
}

/** Takes the objects of a number away, and puts them back in the next round. */
function flip(to: World, row: Row, index: number, round: number): void {
  const objects = row.objects(index, 0);
  if (round % 2 === 1) putAll(to, objects);
  else removeAll(to, objects);
}

function putAll(to: World, objects: readonly KubeObject[]): void {
  for (const object of objects) to.put(object);
}

function removeAll(from: World, objects: readonly KubeObject[]): void {
  for (const object of objects) from.remove(object);
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
