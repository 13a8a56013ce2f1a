import { describe, expect, test } from '@jest/globals';
import type { IpAddress, Port } from '@ambit/api';
import { defaultCapture, renderClosedRules, renderPodRules, renderRemoval } from './index.ts';
import { renderNodeRules } from './node.ts';

const chainsIn = (nft: string): string[] =>
  [...nft.matchAll(/chain ([\w-]+) \{/g)].map(([, name]) => name!);

describe('rules of a captured pod', () => {
  test('are one transaction that replaces the table', () => {
    const { nft } = renderPodRules({ ...defaultCapture, probePorts: [8080 as Port, 80 as Port] });
    expect(nft).toBe(`add table inet ambit
delete table inet ambit
table inet ambit {
  chain raw-output {
    type filter hook output priority raw; policy accept;
    oifname "lo" meta mark & 0xfff == 0x539 ct original zone set 2
  }
  chain mangle-prerouting {
    type filter hook prerouting priority mangle; policy accept;
    iifname "lo" meta mark & 0xfff == 0x539 ct mark set ct mark & 0xfffff000 | 0x111
  }
  chain mangle-output {
    type route hook output priority mangle; policy accept;
    ct mark & 0xfff == 0x111 meta mark & 0xfff != 0x539 meta mark set meta mark & 0xfffff000 | 0x111
  }
  chain nat-prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "lo" accept
    ip saddr 169.254.7.127 tcp dport { 80, 8080 } accept
    ip6 saddr fd16:9254:7127:1337:ffff:ffff:ffff:ffff tcp dport { 80, 8080 } accept
    tcp dport { 15008 } accept
    tcp flags & (syn | ack) == syn meta l4proto { tcp, udp } redirect to :15006
  }
  chain nat-output {
    type nat hook output priority -100; policy accept;
    meta mark & 0xfff == 0x539 accept
    oifname "lo" accept
    tcp flags & (syn | ack) == syn meta l4proto { tcp, udp } redirect to :15001
  }
  chain filter-input {
    type filter hook input priority filter; policy accept;
    iifname "lo" accept
    ip saddr 169.254.7.127 tcp dport { 80, 8080 } accept
    ip6 saddr fd16:9254:7127:1337:ffff:ffff:ffff:ffff tcp dport { 80, 8080 } accept
    ip saddr 169.254.7.127 counter drop
    ip6 saddr fd16:9254:7127:1337:ffff:ffff:ffff:ffff counter drop
    iifname != "lo" tcp flags & (syn | ack) == syn tcp dport != { 15006, 15008 } ct state established ct status & snat != snat ct expiration > 2m counter reject with tcp reset
    iifname != "lo" tcp flags & (syn | ack) == syn tcp dport != { 15006, 15008 } counter drop
  }
  chain filter-postrouting {
    type filter hook postrouting priority filter; policy accept;
    oifname != "lo" tcp flags & (syn | ack) == syn meta mark & 0xfff != 0x539 counter drop
  }
}
`);
  });

  test('without inbound capture drop nothing that comes in but forged probes', () => {
    const { nft } = renderPodRules({ ...defaultCapture, captureInbound: false });
    expect(nft).not.toContain(':15006');
    expect(nft).not.toContain('iifname != "lo" tcp');
    expect(nft).toContain('redirect to :15001');
  });

  test('with DNS capture take UDP and TCP questions, apart from the proxy’s own', () => {
    const { nft } = renderPodRules({ ...defaultCapture, captureDns: true });
    expect(nft).toContain('udp dport { 53 } meta l4proto { tcp, udp } redirect to :15053');
    expect(nft).toContain('meta mark & 0xfff == 0x539 udp dport { 53 } ct zone set 1');
    expect(chainsIn(nft)).toEqual(expect.arrayContaining(['raw-prerouting', 'raw-output']));
  });

  test('route both families, and insist on those the pod has', () => {
    const { routing } = renderPodRules({ ...defaultCapture, families: ['IPv6'] });
    expect(routing.map(({ family, required }) => [family, required])).toEqual([
      ['IPv4', false],
      ['IPv6', true],
    ]);
  });
});

test('a closed pod redirects nothing and lets no port be reached', () => {
  const { nft } = renderClosedRules({ ...defaultCapture, probePorts: [8080 as Port] });
  expect(nft).not.toContain('redirect');
  expect(nft).not.toContain('8080');
  expect(nft).toContain('iifname != "lo" tcp flags & (syn | ack) == syn counter drop');
});

test('draining keeps zone, translation and marks, and nothing else', () => {
  const { nft } = renderRemoval('drain');
  expect(chainsIn(nft)).toEqual([
    'raw-output',
    'mangle-prerouting',
    'mangle-output',
    'nat-prerouting',
    'nat-output',
  ]);
  expect(nft).not.toContain('redirect');
});

test('the node’s sets hold each probe once, by family', () => {
  const at = (ip: string, port: number) => ({ ip: ip as IpAddress, port: port as Port });
  const nft = renderNodeRules([at('10.0.0.1', 80), at('fd00::1', 80), at('10.0.0.1', 80)]);
  expect(nft).toContain(
    'set probes4 { type ipv4_addr . inet_service; elements = { 10.0.0.1 . 80 }; }',
  );
  expect(nft).toContain(
    'set probes6 { type ipv6_addr . inet_service; elements = { fd00::1 . 80 }; }',
  );
});
