// etcd, the API server, the controllers and the scheduler, in a network of their own.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { attempt, inNetns, pidFile, run, start, stop } from './process.mjs';
import { apiPort, controlPlane, networks, nodes, paths } from './layout.mjs';

const pki = (name) => join(paths.pki, name);
const binary = (name) => join(paths.bin, name);
const programs = ['api-forward', 'scheduler', 'controller-manager', 'apiserver', 'etcd'];

/** The bridge that joins the nodes is here, so that nothing of the cluster is in the host's network. */
export function makeControlPlaneNetwork() {
  if (existsSync(`/run/netns/${controlPlane.netns}`)) return;
  run('ip', ['netns', 'add', controlPlane.netns]);
  inside('sh', [
    '-ec',
    `ip link set lo up
     ip link add ${controlPlane.bridge} type bridge
     ip addr add ${controlPlane.ip}/24 dev ${controlPlane.bridge}
     ip link set ${controlPlane.bridge} up
     echo 1 >/proc/sys/net/ipv4/ip_forward
     for file in /proc/sys/net/bridge/bridge-nf-call-*tables; do [ ! -e "$file" ] || echo 0 >"$file"; done`,
  ]);
}

export function inside(command, args) {
  return run(...inNetns(controlPlane.netns, command, args));
}

export function startApi() {
  startInside('etcd', binary('etcd'), {
    'data-dir': join(paths.run, 'etcd'),
    'listen-client-urls': 'http://127.0.0.1:2379',
    'advertise-client-urls': 'http://127.0.0.1:2379',
    'listen-peer-urls': 'http://127.0.0.1:2380',
    'initial-advertise-peer-urls': 'http://127.0.0.1:2380',
    'initial-cluster': 'default=http://127.0.0.1:2380',
    'unsafe-no-fsync': 'true',
    'log-level': 'warn',
  });
  startInside('apiserver', binary('kube-apiserver'), apiServerFlags());
  const to = [`/run/netns/${controlPlane.netns}`, '127.0.0.1:6443'];
  start('api-forward', binary('nsfwd'), [`127.0.0.1:${apiPort}`, ...to]);
}

function apiServerFlags() {
  return {
    'etcd-servers': 'http://127.0.0.1:2379',
    'bind-address': '0.0.0.0',
    'secure-port': '6443',
    'advertise-address': controlPlane.ip,
    'service-cluster-ip-range': networks.services,
    'allow-privileged': 'true',
    'authorization-mode': 'Node,RBAC',
    'enable-admission-plugins': 'NodeRestriction',
    // Webhooks are reached at their pods: no kube-proxy is here.
    'enable-aggregator-routing': 'true',
    'client-ca-file': pki('ca.crt'),
    'tls-cert-file': pki('apiserver.crt'),
    'tls-private-key-file': pki('apiserver.key'),
    'kubelet-client-certificate': pki('apiserver-kubelet.crt'),
    'kubelet-client-key': pki('apiserver-kubelet.key'),
    'kubelet-certificate-authority': pki('ca.crt'),
    'kubelet-preferred-address-types': 'InternalIP',
    'requestheader-client-ca-file': pki('front-ca.crt'),
    'requestheader-allowed-names': 'front-proxy-client',
    'requestheader-username-headers': 'X-Remote-User',
    'requestheader-group-headers': 'X-Remote-Group',
    'requestheader-extra-headers-prefix': 'X-Remote-Extra-',
    'proxy-client-cert-file': pki('front-proxy.crt'),
    'proxy-client-key-file': pki('front-proxy.key'),
    'service-account-issuer': 'https://kubernetes.default.svc.cluster.local',
    'service-account-key-file': pki('service-accounts.pub'),
    'service-account-signing-key-file': pki('service-accounts.key'),
  };
}

export function startControllers() {
  startInside('controller-manager', binary('kube-controller-manager'), {
    kubeconfig: pki('controller-manager.kubeconfig'),
    'authentication-kubeconfig': pki('controller-manager.kubeconfig'),
    'authorization-kubeconfig': pki('controller-manager.kubeconfig'),
    'leader-elect': 'false',
    'use-service-account-credentials': 'true',
    'service-account-private-key-file': pki('service-accounts.key'),
    'root-ca-file': pki('ca.crt'),
    'cluster-signing-cert-file': pki('ca.crt'),
    'cluster-signing-key-file': pki('ca.key'),
    // The nodes are made beforehand, with their ranges.
    'allocate-node-cidrs': 'false',
    'bind-address': '127.0.0.1',
    'node-monitor-grace-period': '20s',
  });
  startInside('scheduler', binary('kube-scheduler'), {
    kubeconfig: pki('scheduler.kubeconfig'),
    'authentication-kubeconfig': pki('scheduler.kubeconfig'),
    'authorization-kubeconfig': pki('scheduler.kubeconfig'),
    'leader-elect': 'false',
    'bind-address': '127.0.0.1',
  });
}

function startInside(name, program, flags) {
  const args = Object.entries(flags).map(([key, value]) => `--${key}=${value}`);
  start(name, ...inNetns(controlPlane.netns, program, args));
}

export async function stopControlPlane() {
  for (const name of programs) await stop(pidFile(name));
  attempt('ip', ['netns', 'delete', controlPlane.netns]);
}

/** A cable from a node to the bridge, and the way to the node's pods. */
export function connectNode({ link, netns, podCidr, ip }) {
  attempt(...inNetns(controlPlane.netns, 'ip', ['link', 'delete', link]));
  inside('sh', [
    '-ec',
    `ip link add ${link} type veth peer name eth0 netns /run/netns/${netns}
     ip link set ${link} master ${controlPlane.bridge} up`,
  ]);
  const others = nodes.filter((other) => other.netns !== netns);
  run(
    ...inNetns(netns, 'sh', [
      '-ec',
      `ip link set lo up
       ip addr add ${ip}/24 dev eth0
       ip link set eth0 up
       ip route add default via ${controlPlane.ip}
       ${others.map((other) => `ip route add ${other.podCidr} via ${other.ip}`).join('\n')}
       echo 1 >/proc/sys/net/ipv4/ip_forward
       for file in /proc/sys/net/bridge/bridge-nf-call-*tables; do [ ! -e "$file" ] || echo 1 >"$file"; done`,
    ]),
  );
  inside('ip', ['route', 'replace', podCidr, 'via', ip]);
}
