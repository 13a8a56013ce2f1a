/** Programs that tests of routes run in pods, each by `node -e`. */

/** A server of TLS that says its version and ends. */
export const tlsServer = `
const server = require('tls').createServer({ cert: process.env.CERT, key: process.env.KEY }, (socket) => {
  socket.on('error', () => {});
  socket.end(process.env.VERSION);
});
server.on('tlsClientError', () => {});
server.listen(8443, '::');
process.on('SIGTERM', () => process.exit(0));
`;

/** Arguments: host, port, server name, how often. Prints who answers, a line each. */
export const tlsClient = `
const [host, port, servername, count] = process.argv.slice(1);
const ask = () => new Promise((resolve) => {
  let text = '';
  const socket = require('tls').connect({ host, port: Number(port), servername, rejectUnauthorized: false });
  socket.on('data', (chunk) => (text += chunk));
  socket.on('error', () => {});
  socket.on('close', () => { console.log(text || 'nobody'); resolve(); });
});
(async () => { for (let at = 0; at < Number(count); at += 1) await ask(); })();
`;

/** A server of gRPC's kind: what a stream says is said back, trailers follow when its client is done. */
export const echoServer = `
const server = require('http2').createServer();
server.on('stream', (stream) => {
  stream.on('error', () => {});
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.on('data', (chunk) => stream.write(chunk));
  stream.on('end', () => stream.end());
});
server.listen(8090, '::');
process.on('SIGTERM', () => process.exit(0));
`;

/**
 * Arguments: a URL of HTTP, one of gRPC's kind, milliseconds. Asks by HTTP/1.1 on kept connections and by HTTP/2, and
 * keeps streams open that echo for three seconds each; prints what became of all as JSON.
 */
export const steadyClient = `
const http = require('http');
const http2 = require('http2');
const [url, echo, ms] = process.argv.slice(1);
const until = Date.now() + Number(ms);
const told = { http1: 0, http1Failed: 0, http2: 0, http2Failed: 0, streams: 0, streamsFailed: 0, connectionsLost: 0, why: [] };
const changes = new Set();
const note = (what, why) => { told[what] += 1; if (told.why.length < 10) told.why.push(what + ': ' + why); };
const rest = (wait) => new Promise((resolve) => setTimeout(resolve, wait));
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
async function http1() {
  while (Date.now() < until) {
    await new Promise((resolve) => {
      const call = http.get(url, { agent }, (answer) => {
        answer.resume();
        answer.on('end', () => { if (answer.statusCode === 200) told.http1 += 1; else note('http1Failed', answer.statusCode); resolve(); });
        answer.on('error', (error) => { note('http1Failed', error.code); resolve(); });
      });
      call.on('error', (error) => { note('http1Failed', error.code); resolve(); });
    });
    await rest(10);
  }
}
function session(to) {
  const made = http2.connect(to);
  made.on('error', (error) => note('connectionsLost', error.message));
  made.on('goaway', (code) => note('connectionsLost', 'goaway ' + code));
  return made;
}
async function overHttp2(on) {
  while (Date.now() < until) {
    await new Promise((resolve) => {
      const stream = on.request({ ':path': '/' });
      let status = 0;
      stream.on('response', (head) => (status = head[':status']));
      stream.on('error', () => {});
      stream.resume();
      stream.on('close', () => { if (status === 200 && stream.rstCode === 0) told.http2 += 1; else note('http2Failed', status + ' ' + stream.rstCode); resolve(); });
    });
    await rest(10);
  }
}
async function streams(on) {
  while (Date.now() < until) {
    await new Promise((resolve) => {
      const stream = on.request({ ':method': 'POST', ':path': '/echo.Echo/Talk', 'content-type': 'application/grpc', te: 'trailers' }, { endStream: false });
      let sent = '', got = '', status;
      const timer = setInterval(() => { const text = sent.length + ';'; sent += text; stream.write(text); }, 20);
      setTimeout(() => { clearInterval(timer); stream.end(); }, 3000);
      stream.on('response', (head) => changes.add(head['x-change']));
      stream.on('data', (chunk) => (got += chunk));
      stream.on('trailers', (fields) => (status = fields['grpc-status']));
      stream.on('error', () => {});
      stream.on('close', () => { clearInterval(timer); if (got === sent && status === '0' && stream.rstCode === 0) told.streams += 1; else note('streamsFailed', [got.length, sent.length, status, stream.rstCode].join(' ')); resolve(); });
    });
  }
}
const plain = session(url);
const talking = session(echo);
Promise.all([http1(), http1(), overHttp2(plain), overHttp2(plain), ...Array.from({ length: 8 }, (_, at) => rest(at * 350).then(() => streams(talking)))]).then(() => {
  told.seenChanges = changes.size;
  console.log(JSON.stringify(told));
  process.exit(0);
});
`;
