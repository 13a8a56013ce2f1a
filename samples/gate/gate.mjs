// An authorizer that lets in whom it knows by `x-user`: over HTTP on port 8000, over gRPC on port 9000.
import { createServer } from 'node:http';
import { createServer as createHttp2Server } from 'node:http2';

const known = new Set((process.env.USERS ?? 'alice').split(','));

createServer((request, response) => {
  const user = request.headers['x-user'];
  const allowed = known.has(user);
  console.log(`http ${request.method} ${request.url} ${user} ${allowed}`);
  response.writeHead(allowed ? 200 : 401, allowed ? { 'x-gate': `http ${user}` } : {});
  response.end(allowed ? '' : 'the gate does not know you\n');
}).listen(8000, '::');

// envoy.service.auth.v3.Authorization/Check, as far as it is needed here.
const grpc = createHttp2Server();
grpc.on('stream', (stream) => {
  const chunks = [];
  stream.on('error', () => undefined);
  stream.on('data', (chunk) => chunks.push(chunk));
  stream.on('end', () => {
    const message = Buffer.concat(chunks).subarray(5);
    const attributes = only(message, 1);
    const client = only(only(attributes, 1), 4).toString();
    const request = only(only(attributes, 4), 2);
    const headers = new Map(
      fields(request, 3).map((entry) => [only(entry, 1).toString(), only(entry, 2).toString()]),
    );
    const user = headers.get('x-user');
    const allowed = known.has(user);
    console.log(`grpc ${only(request, 2)} ${only(request, 4)} ${user} of ${client} ${allowed}`);
    const answer = allowed ? okay('x-gate', `grpc ${user} of ${client}`) : denied(401);
    const head = Buffer.alloc(5);
    head.writeUInt32BE(answer.length, 1);
    const kind = { ':status': 200, 'content-type': 'application/grpc' };
    stream.respond(kind, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(Buffer.concat([head, answer]));
  });
});
grpc.listen(9000, '::');

process.on('SIGTERM', () => process.exit(0));

/** CheckResponse: status 0, and a header for the service. */
function okay(name, value) {
  const header = part(1, Buffer.concat([part(1, name), part(2, value)]));
  return Buffer.concat([part(1, Buffer.alloc(0)), part(3, part(2, header))]);
}

/** CheckResponse: status 7 (permission denied), and what the client gets. */
function denied(status) {
  const code = Buffer.concat([Buffer.from([8]), varint(status)]);
  const body = part(3, 'the gate does not know you\n');
  return Buffer.concat([
    part(1, Buffer.from([8, 7])),
    part(2, Buffer.concat([part(1, code), body])),
  ]);
}

/** A field of a protobuf message that has a length. */
function part(number, content) {
  const bytes = Buffer.from(content);
  return Buffer.concat([Buffer.from([number * 8 + 2]), varint(bytes.length), bytes]);
}

function varint(number) {
  const bytes = [];
  for (; number > 127; number = Math.floor(number / 128)) bytes.push((number % 128) + 128);
  return Buffer.from([...bytes, number]);
}

function only(message, number) {
  return fields(message, number)[0] ?? Buffer.alloc(0);
}

/** All fields of that number that have a length. */
function fields(message, number) {
  const found = [];
  let at = 0;
  const read = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = message[at++] ?? 0;
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const tag = read();
    const kind = tag % 8;
    if (kind === 0) read();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else {
      const length = read();
      if (Math.floor(tag / 8) === number) found.push(message.subarray(at, at + length));
      at += length;
    }
  }
  return found;
}
