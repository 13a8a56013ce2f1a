// The baseline: one hop of a TCP proxy as anybody would write it, no TLS, no policy, no capture.
// Usage: plain-proxy.ts LISTEN-PORT HOST PORT   (also proxies PORT+1 from LISTEN-PORT+1)
import { connect, createServer } from 'node:net';

const [listenPort = 0, host = '', port = 0] = process.argv.slice(2);

function serve(offset: number, ready: () => void): void {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (downstream) => {
    const upstream = connect({
      host: host,
      port: Number(port) + offset,
      allowHalfOpen: true,
      noDelay: true,
    });
    downstream.on('error', () => upstream.destroy());
    upstream.on('error', () => downstream.destroy());
    downstream.pipe(upstream);
    upstream.pipe(downstream);
  });
  server.listen({ port: Number(listenPort) + offset, host: '0.0.0.0', backlog: 4096 }, ready);
}

serve(0, () => serve(1, () => process.stdout.write('ready\n')));
