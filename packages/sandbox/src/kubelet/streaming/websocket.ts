import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocketServer, type RawData, type WebSocket } from 'ws';
import type { ExecOptions, StreamClient } from './exec.ts';

const protocols = ['v5.channel.k8s.io', 'v4.channel.k8s.io'];
const channels = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4 } as const;
const closeChannel = 255;
const maxMessageBytes = 1024 * 1024;

const server = new WebSocketServer({
  noServer: true,
  maxPayload: maxMessageBytes,
  handleProtocols: (offered) => protocols.find((protocol) => offered.has(protocol)) ?? false,
});

/** Whether the request asks for a WebSocket with a protocol that exec and attach speak. */
export function offersChannels(request: IncomingMessage): boolean {
  const offered = (request.headers['sec-websocket-protocol'] ?? '')
    .split(',')
    .map((name) => name.trim());
  return protocols.some((protocol) => offered.includes(protocol));
}

/** Accepts an exec or attach over WebSocket: one byte names the channel of every message. */
export async function acceptWebSocket(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  options: ExecOptions,
): Promise<StreamClient> {
  const webSocket = await new Promise<WebSocket>((resolve) =>
    server.handleUpgrade(request, socket, head, resolve),
  );
  webSocket.on('error', () => webSocket.terminate());
  const listeners = {
    stdin: ignore as (data: Buffer) => void,
    stdinEnd: ignore,
    resize: ignore as (size: { width: number; height: number }) => void,
  };
  // What arrives before the command runs waits for it.
  const early: Buffer[] = [];
  let ready = false;
  let ended = false;
  const receive = (message: Buffer): void => {
    const data = message.subarray(1);
    switch (message.readUInt8(0)) {
      case channels.stdin:
        listeners.stdin(data);
        break;
      case channels.resize:
        resize(data, listeners.resize);
        break;
      case closeChannel:
        if (data[0] === channels.stdin) ended = true;
        if (ended) listeners.stdinEnd();
        break;
    }
  };
  webSocket.on('message', (raw: RawData) => {
    const message = toBuffer(raw);
    if (message.length === 0) return;
    if (ready) receive(message);
    else early.push(message);
  });
  const send = (channel: number, data: Buffer): Promise<void> =>
    new Promise((resolve) =>
      webSocket.send(Buffer.concat([Buffer.of(channel), data]), () => resolve()),
    );
  // Clients take the first message as the sign that the session stands.
  await send(
    options.stdout ? channels.stdout : options.stderr ? channels.stderr : channels.error,
    Buffer.alloc(0),
  );
  setImmediate(() => {
    ready = true;
    for (const message of early.splice(0)) receive(message);
  });
  return {
    write: (stream, data) => send(channels[stream], data),
    async finish(status) {
      await send(channels.error, Buffer.from(JSON.stringify(status)));
      webSocket.close(1000);
    },
    onStdin: (listener) => void (listeners.stdin = listener),
    onStdinEnd: (listener) => void (listeners.stdinEnd = listener),
    onResize: (listener) => void (listeners.resize = listener),
    onClose: (listener) => void webSocket.on('close', listener),
  };
}

function ignore(): void {
  // Nobody listens yet.
}

function toBuffer(raw: RawData): Buffer {
  if (Array.isArray(raw)) return Buffer.concat(raw);
  return Buffer.isBuffer(raw) ? raw : Buffer.from(raw);
}

/** `{"Width":80,"Height":24}`; anything else is no size. */
export function resize(
  data: Buffer,
  listener: (size: { width: number; height: number }) => void,
): void {
  try {
    const size = JSON.parse(data.toString('utf8')) as { Width?: unknown; Height?: unknown };
    const width = Number(size.Width);
    const height = Number(size.Height);
    if (Number.isInteger(width) && Number.isInteger(height) && width > 0 && height > 0)
      listener({ width, height });
  } catch {
    // Not a size.
  }
}
