// Asks a server on connections that it keeps, each request after the last answer and a pause, until no new connection
// comes about; prints how many were answered, and which failed on a connection that had been answered before.
//   node kept-load.mjs URL CONNECTIONS SHORTEST-PAUSE-MS LONGEST-PAUSE-MS
import { Agent, request } from 'node:http';

const [url, ...numbers] = process.argv.slice(2);
const [connections, shortestMs, longestMs] = numbers.map(Number);
const began = Date.now();
const totals = { answered: 0, failed: [] };
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Its answer is read to the end; false: no connection came about. */
function ask(agent, pauseMs) {
  return new Promise((resolve) => {
    const failed = (error) => {
      if (call.reusedSocket)
        totals.failed.push(`pause ${pauseMs} ms, at ${Date.now() - began} ms: ${error.message}`);
      resolve(call.reusedSocket);
    };
    const call = request(url, { agent, method: 'POST' }, (response) => {
      response.on('data', () => {});
      response.on('error', failed);
      response.on('end', () => {
        totals.answered += 1;
        resolve(true);
      });
    });
    call.on('error', failed);
    call.end('a request');
  });
}

async function line(pauseMs) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  while (await ask(agent, pauseMs)) await sleep(pauseMs);
}

const pauseOf = (i) => shortestMs + (i % (longestMs - shortestMs + 1));
await Promise.all(Array.from({ length: connections }, (_, i) => line(pauseOf(i))));
console.log(JSON.stringify(totals));
