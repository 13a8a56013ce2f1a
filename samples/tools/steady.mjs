// Sends requests at a steady rate, each on a connection of its own, and prints what became of them.
//   node steady.mjs URL REQUESTS-PER-SECOND
import { get } from 'node:http';

const [url, rateText = '20'] = process.argv.slice(2);
const totals = { sent: 0, ok: 0, failed: 0, errors: {}, failedAt: [] };

function request() {
  totals.sent += 1;
  const startedAt = new Date().toISOString();
  const fail = (reason) => {
    totals.failed += 1;
    totals.errors[reason] = (totals.errors[reason] ?? 0) + 1;
    // The first and the last time, so that it can be found in the logs.
    totals.failedAt = [totals.failedAt[0] ?? startedAt, startedAt];
  };
  const call = get(url, { agent: false, timeout: 10_000 }, (response) => {
    let whole = false;
    response.on('data', () => {});
    response.on('end', () => (whole = true));
    response.on('error', () => {});
    response.on('close', () => {
      if (response.statusCode === 200 && whole) totals.ok += 1;
      else fail(whole ? `status ${response.statusCode}` : 'cut short');
    });
  });
  call.on('timeout', () => call.destroy(Object.assign(new Error('timeout'), { code: 'timeout' })));
  call.on('error', (error) => fail(error.code ?? error.message));
}

setInterval(request, 1000 / Number(rateText));
setInterval(() => console.log(JSON.stringify(totals)), 250);
