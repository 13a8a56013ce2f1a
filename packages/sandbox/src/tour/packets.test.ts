import { describe, expect, test } from '@jest/globals';
import { examine, parseSegment } from './packets.ts';

function ipv4Frame(sourcePort: number, destinationPort: number, payload: Buffer): Buffer {
  const ethernet = Buffer.alloc(14);
  ethernet.writeUInt16BE(0x0800, 12);
  const ip = Buffer.alloc(20);
  ip[0] = 0x45;
  ip[9] = 6;
  ip.writeUInt16BE(40 + payload.length, 2);
  return Buffer.concat([ethernet, ip, tcpSegment(sourcePort, destinationPort, payload)]);
}

function ipv6Frame(sourcePort: number, destinationPort: number, payload: Buffer): Buffer {
  const ethernet = Buffer.alloc(14);
  ethernet.writeUInt16BE(0x86dd, 12);
  const ip = Buffer.alloc(40);
  ip[0] = 0x60;
  ip[6] = 6;
  ip.writeUInt16BE(20 + payload.length, 4);
  return Buffer.concat([ethernet, ip, tcpSegment(sourcePort, destinationPort, payload)]);
}

function tcpSegment(sourcePort: number, destinationPort: number, payload: Buffer): Buffer {
  const tcp = Buffer.alloc(20);
  tcp.writeUInt16BE(sourcePort, 0);
  tcp.writeUInt16BE(destinationPort, 2);
  tcp[12] = 5 << 4;
  return Buffer.concat([tcp, payload]);
}

describe('a captured link', () => {
  test('shows a secret that was sent in clear, over IPv4 and IPv6', () => {
    const frames = [
      ipv4Frame(4000, 80, Buffer.from('GET /secret-7')),
      ipv6Frame(80, 4000, Buffer.from('secret-7')),
    ];
    expect(examine(frames, 'secret-7', 15008)).toEqual({
      segments: 2,
      inClear: 2,
      onHbonePort: 0,
      tlsRecords: 0,
    });
  });

  test('tells TLS records on the HBONE port from anything else there', () => {
    const record = Buffer.from([23, 3, 3, 0, 2, 1, 1]);
    const frames = [
      ipv4Frame(4000, 15008, record),
      ipv4Frame(15008, 4000, Buffer.from([22, 3, 1, 0, 1, 1])),
      ipv4Frame(15008, 4000, Buffer.from('HTTP/1.1 400')),
      ipv4Frame(15008, 4000, Buffer.alloc(0)),
    ];
    expect(examine(frames, 'x', 15008)).toEqual({
      segments: 4,
      inClear: 0,
      onHbonePort: 3,
      tlsRecords: 2,
    });
  });

  test('ignores padding behind a short packet and frames that carry no TCP', () => {
    const padded = Buffer.concat([ipv4Frame(1, 2, Buffer.alloc(0)), Buffer.from('padding')]);
    expect(parseSegment(padded)?.payload.length).toBe(0);
    expect(parseSegment(Buffer.alloc(13))).toBeUndefined();
    const arp = Buffer.alloc(42);
    arp.writeUInt16BE(0x0806, 12);
    expect(parseSegment(arp)).toBeUndefined();
  });
});
