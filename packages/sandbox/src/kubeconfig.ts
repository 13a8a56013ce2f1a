/** A kubeconfig of one cluster and one administrator. */
export function renderKubeconfig(server: string, ca: string, token: string): string {
  const data = Buffer.from(ca).toString('base64');
  return [
    'apiVersion: v1',
    'kind: Config',
    'current-context: ambit',
    'clusters:',
    '  - name: ambit',
    `    cluster: { server: '${server}', certificate-authority-data: ${data} }`,
    'users:',
    '  - name: admin',
    `    user: { token: '${token}' }`,
    'contexts:',
    '  - name: ambit',
    '    context: { cluster: ambit, user: admin }',
    '',
  ].join('\n');
}
