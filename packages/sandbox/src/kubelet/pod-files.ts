import { readFile } from 'node:fs/promises';
import type { Pod } from '../cluster/objects.ts';
import type { NodeContext } from './node-context.ts';

/** `/etc/resolv.conf` by the pod's dnsPolicy and dnsConfig. */
export async function resolvConf(pod: Pod, node: Pick<NodeContext, 'dns'>): Promise<string> {
  const { dnsPolicy = 'ClusterFirst', dnsConfig = {}, hostNetwork } = pod.spec;
  const useCluster =
    dnsPolicy === 'ClusterFirstWithHostNet' ||
    (dnsPolicy === 'ClusterFirst' && hostNetwork !== true);
  if (dnsPolicy !== 'None' && !useCluster) {
    return readFile('/etc/resolv.conf', 'utf8').catch(() => '');
  }
  const { domain, servers } = node.dns;
  const namespace = pod.metadata.namespace ?? 'default';
  const base = useCluster
    ? { servers, searches: [`${namespace}.svc.${domain}`, `svc.${domain}`, domain] }
    : { servers: [], searches: [] };
  const options = new Map<string, string | undefined>(useCluster ? [['ndots', '5']] : []);
  for (const option of dnsConfig.options ?? []) options.set(option.name, option.value);
  const lines = [
    ['search', ...base.searches, ...(dnsConfig.searches ?? [])],
    ...[...base.servers, ...(dnsConfig.nameservers ?? [])].map((server) => ['nameserver', server]),
    [
      'options',
      ...Array.from(options, ([name, value]) => (value === undefined ? name : `${name}:${value}`)),
    ],
  ];
  return lines
    .filter((words) => words.length > 1)
    .map((words) => `${words.join(' ')}\n`)
    .join('');
}

/** `/etc/hosts` as kubelets write it. */
export function hostsFile(pod: Pod, ips: readonly string[], hostname: string): string {
  const { subdomain, hostAliases = [] } = pod.spec;
  const full =
    subdomain === undefined
      ? ''
      : `${hostname}.${subdomain}.${pod.metadata.namespace ?? ''}.svc.cluster.local\t`;
  return [
    '# Kubernetes-managed hosts file.',
    '127.0.0.1\tlocalhost',
    '::1\tlocalhost ip6-localhost ip6-loopback',
    'fe00::0\tip6-localnet',
    'ff00::0\tip6-mcastprefix',
    'ff02::1\tip6-allnodes',
    'ff02::2\tip6-allrouters',
    ...ips.map((ip) => `${ip}\t${full}${hostname}`),
    ...hostAliases.map((alias) => `${alias.ip}\t${(alias.hostnames ?? []).join('\t')}`),
    '',
  ].join('\n');
}

export function hostnameOf(pod: Pod, nodeName: string): string {
  if (pod.spec.hostNetwork === true) return nodeName;
  return (pod.spec.hostname ?? pod.metadata.name).slice(0, 63).replace(/[-.]+$/, '');
}
