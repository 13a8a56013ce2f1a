// What the shop's HTTP services share: a server that says who answered whom, and a client.
import { createServer, request } from 'node:http';
import { hostname } from 'node:os';

const version = process.env.VERSION ?? 'v1';

export function serve(name, port, answer) {
  const server = createServer(async (incoming, response) => {
    const send = (status, body) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(`${JSON.stringify(body)}\n`);
    };
    if (incoming.url === '/healthz') return send(200, { ok: true });
    // For demonstrations of what a mesh does about it: a version that fails, or one that takes its time.
    const fails = Math.random() * 100 < Number(process.env.FAIL_PERCENT ?? 0);
    if (fails) return send(503, { service: name, version, error: 'this version is broken' });
    const slowMs = Number(process.env.SLOW_MS ?? 0);
    if (slowMs > 0) await new Promise((resolve) => setTimeout(resolve, slowMs));
    const seen = {
      service: name,
      version,
      pod: hostname(),
      caller: incoming.socket.remoteAddress?.replace(/^::ffff:/, ''),
    };
    try {
      return send(200, {
        ...seen,
        ...(await answer(new URL(incoming.url ?? '/', 'http://shop'), incoming)),
      });
    } catch (error) {
      return send(503, { ...seen, error: error.code ?? error.message });
    }
  });
  server.keepAliveTimeout = 5_000;
  server.listen(port, '::', () => console.log(`${name} ${version} listens on ${port}`));
  process.on('SIGTERM', () => {
    // Requests under way are finished; callers learn of the end from the endpoints.
    setTimeout(() => server.close(() => process.exit(0)), 300);
    setTimeout(() => process.exit(0), 3_000).unref();
  });
}

export function getJson(url) {
  return new Promise((resolve, reject) => {
    const call = request(url, { timeout: 5_000 }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk) => (text += chunk));
      response.on('error', reject);
      response.on('end', () => {
        try {
          resolve(JSON.parse(text));
        } catch {
          reject(new Error(`${url} answered no JSON`));
        }
      });
    });
    call.on('timeout', () =>
      call.destroy(Object.assign(new Error('timeout'), { code: 'timeout' })),
    );
    call.on('error', reject);
    call.end();
  });
}
