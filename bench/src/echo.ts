// The application under load: echoes on one port, counts and discards on the next.
import { createServer } from 'node:net';

const port = Number(process.argv[2]);

const echo = createServer({ noDelay: true }, (socket) => {
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => socket.write(chunk));
});

const sink = createServer({ allowHalfOpen: true }, (socket) => {
  let received = 0;
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => (received += chunk.length));
  // The count is the sender's proof that every byte arrived.
  socket.on('end', () => socket.end(String(received)));
});

echo.listen({ port, host: '0.0.0.0', backlog: 4096 }, () => {
  sink.listen({ port: port + 1, host: '0.0.0.0', backlog: 4096 }, () => {
    process.stdout.write('ready\n');
  });
});
