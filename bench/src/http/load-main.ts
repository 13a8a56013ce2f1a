// The HTTP load as a program: node bench-http-load.mjs HOST PORT SECONDS WORK, its result as one line of JSON.
import { load, overTcp } from './load.ts';
import type { HttpWork } from './work.ts';

const [host = '', port = '', seconds = '', work = '{}'] = process.argv.slice(2);
const result = await load(
  overTcp(host, Number(port)),
  JSON.parse(work) as HttpWork,
  Number(seconds),
);
process.stdout.write(`${JSON.stringify(result)}\n`);
process.exit(0);
