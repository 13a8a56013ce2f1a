// Asks a server without pause until a file is there, and prints what became of each request; with a rate, so many times
// a second whatever becomes of them, each time on a new connection.
//   node load.mjs URL STOP-FILE SECONDS [REQUESTS-PER-SECOND]
import { existsSync } from 'node:fs';
import { Agent, request } from 'node:http';

const [url, stopFile, seconds, rate] = process.argv.slice(2);
const began = Date.now();
const totals = { ok: 0, failed: 0, longestMs: 0, errors: [] };
const over = () => existsSync(stopFile) || Date.now() - began > Number(seconds) * 1000;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function ask(agent, method) {
  return new Promise((resolve, reject) => {
    const call = request(url, { agent, method, timeout: 20_000 }, (response) => {
      response.on('data', () => {});
      response.on('error', reject);
      response.on('end', () =>
        response.statusCode === 200
          ? resolve()
          : reject(new Error(`status ${response.statusCode}`)),
      );
    });
    call.on('timeout', () => call.destroy(new Error('timeout')));
    call.on('error', reject);
    call.end();
  });
}

/** `POST`, so that nobody in between repeats one. */
async function count(name, agent) {
  const sentAt = Date.now();
  try {
    await ask(agent, 'POST');
    totals.ok += 1;
  } catch (error) {
    totals.failed += 1;
    if (totals.errors.length < 20)
      totals.errors.push(`${name} at ${Date.now() - began} ms: ${error.message}`);
  }
  totals.longestMs = Math.max(totals.longestMs, Date.now() - sentAt);
}

/** One line of requests, each after the last. */
async function line(name, agent, pauseMs) {
  while (!over()) {
    await count(name, agent);
    await sleep(pauseMs);
  }
}

async function steady(perSecond) {
  const asked = [];
  while (!over()) {
    asked.push(count('steady', new Agent({ keepAlive: false })));
    await sleep(1000 / perSecond);
  }
  await Promise.all(asked);
}

const kept = () => new Agent({ keepAlive: true, maxSockets: 1 });
const lines = () => [
  ...[5, 10, 20, 20].map((pauseMs) => line('kept', kept(), pauseMs)),
  // Idle for most of the time.
  ...[400, 900, 1500, 2500].map((pauseMs) => line('rare', kept(), pauseMs)),
  ...[20, 40].map((pauseMs) => line('new', new Agent({ keepAlive: false }), pauseMs)),
];
await (rate === undefined ? Promise.all(lines()) : steady(Number(rate)));
console.log(JSON.stringify(totals));
process.exit(0);
