import type { Sandbox } from './app.ts';

/** What the person at the terminal reads once everything runs. */
export async function renderSummary(
  sandbox: Sandbox,
  ports: {
    readonly apiPort: number;
    readonly kubeconfig: string;
    readonly exposed: readonly { readonly service: string; readonly port: number }[];
  },
  seconds: number,
): Promise<string> {
  const namespaces = ['istio-system', 'shop', 'clients'];
  const pods = (
    await Promise.all(namespaces.map((namespace) => sandbox.tour.pods(namespace)))
  ).flat();
  const widest = Math.max(...pods.map(({ namespace, name }) => namespace.length + name.length + 1));
  const rows = pods.map(
    ({ namespace, name, node, ip }) => `  ${`${namespace}/${name}`.padEnd(widest)}  ${node}  ${ip}`,
  );
  const metricsIp = pods.find(({ labels }) => labels.get('app') === 'ztunnel')?.ip ?? '';
  const exposed = ports.exposed.map(
    ({ service, port }) => `  ${service} is at http://127.0.0.1:${port}`,
  );
  return [
    '',
    `Up after ${seconds.toFixed(1)} s. What runs where:`,
    ...rows,
    '',
    `The Kubernetes API is at https://127.0.0.1:${ports.apiPort}. In another terminal:`,
    `  export KUBECONFIG=${ports.kubeconfig}`,
    ...exposed,
    '',
    'Five commands to try:',
    '  kubectl label namespace shop clients istio.io/dataplane-mode=ambient      # join the mesh, live',
    '  kubectl -n clients exec deploy/client -- curl -s http://frontend.shop:8080/   # now mutual TLS',
    "  kubectl -n istio-system logs ds/ztunnel | grep 'connection complete'      # who called whom",
    '  kubectl apply -f samples/shop/policy/only-the-client.yaml                 # refuse the stranger by name',
    `  kubectl -n clients exec deploy/client -- curl -s http://${metricsIp}:15020/metrics   # what was counted`,
    '',
    'Ctrl-C ends it and leaves nothing behind.',
  ].join('\n');
}
