import { expect, test } from '@jest/globals';
import { decodePod } from './decode.ts';

function portsOf(...containers: readonly object[]): readonly number[] {
  const pod: object = { spec: { containers: containers.map((one) => ({ name: 'a', ...one })) } };
  return decodePod(pod).probePorts;
}

const ports = [{ name: 'admin', containerPort: 9090 }];

test('ports that the kubelet asks are those of probes and of hooks, by number or by name', () => {
  const httpGet = (port: number | string): object => ({ httpGet: { port } });
  expect(portsOf({ ports })).toEqual([]);
  expect(
    portsOf(
      { ports, startupProbe: httpGet('admin'), readinessProbe: { tcpSocket: { port: 1 } } },
      { livenessProbe: { grpc: { port: 2 } } },
    ),
  ).toEqual([9090, 1, 2]);
  expect(
    portsOf({ ports, lifecycle: { postStart: httpGet('admin'), preStop: httpGet(8081) } }),
  ).toEqual([9090, 8081]);
});

test('what asks for no port, or for one that there is not, asks for none', () => {
  const exec = { exec: { command: ['true'] } };
  expect(
    portsOf({
      ports,
      livenessProbe: exec,
      readinessProbe: { httpGet: { port: 'nobody' } },
      lifecycle: { postStart: exec, preStop: { sleep: { seconds: 1 } } },
    }),
  ).toEqual([]);
});
