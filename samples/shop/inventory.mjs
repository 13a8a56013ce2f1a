// A line protocol over TCP: `STOCK item` → `item count pod caller`, `QUIT` ends.
import { createServer } from 'node:net';
import { hostname } from 'node:os';

const stock = new Map([
  ['lamp', 7],
  ['chair', 3],
  ['table', 0],
]);
const maxLine = 200;

const server = createServer((socket) => {
  let text = '';
  socket.setEncoding('utf8');
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => {
    text += chunk;
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
      const [verb, item = ''] = text.slice(0, end).trim().split(' ');
      text = text.slice(end + 1);
      if (verb === 'QUIT') return socket.end();
      const caller = socket.remoteAddress?.replace(/^::ffff:/, '');
      socket.write(
        verb === 'STOCK'
          ? `${item} ${stock.get(item) ?? 0} ${hostname()} ${caller}\n`
          : 'unknown command\n',
      );
    }
    if (text.length > maxLine) socket.destroy();
  });
});
server.listen(9000, '::', () => console.log('inventory listens on 9000'));
process.on('SIGTERM', () => process.exit(0));
