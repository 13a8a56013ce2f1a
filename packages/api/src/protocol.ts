const http1Words: ReadonlySet<string> = new Set(['http', 'http-web', 'ws', 'kubernetes.io/ws']);
const http2Words: ReadonlySet<string> = new Set([
  'http2',
  'grpc',
  'grpc-web',
  'h2c',
  'kubernetes.io/h2c',
]);
const tcpWords: ReadonlySet<string> = new Set(['tcp', 'mongo', 'mysql', 'redis', 'udp']);
const tlsWords: ReadonlySet<string> = new Set(['tls', 'https', 'kubernetes.io/wss']);
/** Of SMTP, DNS, MySQL and MongoDB: as in Istio, nobody waits there for a client that waits for its server. */
const serverFirstPorts: ReadonlySet<number> = new Set([25, 53, 3306, 27017]);

/** What a port says of itself: `appProtocol` first, then the part of its name before a dash, then its number. */
export function declaredProtocol(port: {
  readonly port?: number;
  readonly name: string;
  readonly appProtocol: string;
}): 'http' | 'http2' | 'tls' | 'tcp' | undefined {
  const word = port.appProtocol === '' ? (port.name.split('-')[0] ?? '') : port.appProtocol;
  const known = word.toLowerCase();
  if (http1Words.has(known)) return 'http';
  if (http2Words.has(known)) return 'http2';
  if (tlsWords.has(known)) return 'tls';
  return tcpWords.has(known) || serverFirstPorts.has(port.port ?? 0) ? 'tcp' : undefined;
}
