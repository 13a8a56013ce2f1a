import { connect } from 'node:net';
import { serve } from './http.mjs';

const [host = 'inventory', port = '9000'] = (process.env.INVENTORY ?? 'inventory:9000').split(':');

/** Asks the inventory one line and reads one line back. */
function ask(line) {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: Number(port) });
    let text = '';
    socket.setTimeout(5_000, () =>
      socket.destroy(Object.assign(new Error('timeout'), { code: 'timeout' })),
    );
    socket.setEncoding('utf8');
    socket.on('connect', () => socket.write(`${line}\n`));
    socket.on('data', (chunk) => {
      text += chunk;
      if (!text.includes('\n')) return;
      resolve(text.slice(0, text.indexOf('\n')));
      socket.end();
    });
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('the inventory hung up')));
  });
}

serve('cart', 8080, async () => ({ items: ['lamp'], stock: await ask('STOCK lamp') }));
