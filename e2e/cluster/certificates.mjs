// The cluster's authorities, and the certificates and kubeconfigs of its programs; made once, kept with the state.
import 'reflect-metadata';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { generateKeyPairSync, webcrypto } from 'node:crypto';
import { join } from 'node:path';
import * as x509 from '@peculiar/x509';
import { apiPort, controlPlane, insideApi, networks, nodes, paths } from './layout.mjs';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const years = 10 * 365 * 24 * 3600 * 1000;
const { clientAuth, serverAuth } = x509.ExtendedKeyUsage;
let serial = 0;

export async function makeCertificates() {
  const done = join(paths.pki, 'done');
  if (existsSync(done)) return;
  mkdirSync(paths.pki, { recursive: true, mode: 0o700 });
  const ca = await authority('ca', 'CN=kubernetes-ca');
  const front = await authority('front-ca', 'CN=front-proxy-ca');
  await issue(ca, 'apiserver', 'CN=kube-apiserver', [serverAuth], apiNames());
  await issue(ca, 'apiserver-kubelet', 'O=system:masters, CN=apiserver-kubelet', [clientAuth]);
  await issue(front, 'front-proxy', 'CN=front-proxy-client', [clientAuth]);
  for (const [name, subject] of [
    ['controller-manager', 'CN=system:kube-controller-manager'],
    ['scheduler', 'CN=system:kube-scheduler'],
    ['proxy', 'CN=system:kube-proxy'],
  ]) {
    const pair = await issue(ca, name, subject, [clientAuth]);
    writeKubeconfig(join(paths.pki, `${name}.kubeconfig`), insideApi, ca, pair);
  }
  for (const { name, ip } of nodes) {
    const subject = `O=system:nodes, CN=system:node:${name}`;
    const names = [
      { type: 'dns', value: name },
      { type: 'ip', value: ip },
    ];
    const pair = await issue(ca, `kubelet-${name}`, subject, [clientAuth, serverAuth], names);
    writeKubeconfig(join(paths.pki, `kubelet-${name}.kubeconfig`), insideApi, ca, pair);
  }
  const admin = await issue(ca, 'admin', 'O=system:masters, CN=admin', [clientAuth]);
  writeKubeconfig(paths.kubeconfig, `https://127.0.0.1:${apiPort}`, ca, admin);
  writeKubeconfig(join(paths.pki, 'inside.kubeconfig'), insideApi, ca, admin);
  const signer = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  write('service-accounts.key', signer.privateKey);
  write('service-accounts.pub', signer.publicKey);
  write('done', '');
}

function apiNames() {
  const service = 'kubernetes.default.svc.cluster.local';
  const dns = ['localhost', service];
  for (let at = service.lastIndexOf('.'); at > 0; at = service.lastIndexOf('.', at - 1))
    dns.push(service.slice(0, at));
  const ips = ['127.0.0.1', controlPlane.ip, networks.api];
  return [
    ...dns.map((value) => ({ type: 'dns', value })),
    ...ips.map((value) => ({ type: 'ip', value })),
  ];
}

async function authority(name, subject) {
  const keys = await generateKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: subject,
    ...common(),
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return save(name, certificate, keys);
}

async function issue(ca, name, subject, usages, names = []) {
  const keys = await generateKeys();
  const certificate = await x509.X509CertificateGenerator.create({
    subject,
    issuer: ca.certificate.subject,
    ...common(),
    publicKey: keys.publicKey,
    signingKey: ca.keys.privateKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(usages),
      ...(names.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names)]),
    ],
  });
  return save(name, certificate, keys);
}

function common() {
  serial += 1;
  const now = Date.now();
  return {
    serialNumber: serial.toString(16).padStart(2, '0'),
    notBefore: new Date(now - 60_000),
    notAfter: new Date(now + years),
    signingAlgorithm: algorithm,
  };
}

function generateKeys() {
  return webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
}

async function save(name, certificate, keys) {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
  const lines = der.toString('base64').match(/.{1,64}/g);
  const key = `-----BEGIN PRIVATE KEY-----\n${lines.join('\n')}\n-----END PRIVATE KEY-----\n`;
  const pem = `${certificate.toString('pem')}\n`;
  write(`${name}.crt`, pem);
  write(`${name}.key`, key);
  return { certificate, keys, pem, key };
}

function write(name, text) {
  writeFileSync(join(paths.pki, name), text, { mode: 0o600 });
}

/** As JSON, which is YAML too. */
function writeKubeconfig(file, server, ca, { pem, key }) {
  const base64 = (text) => Buffer.from(text).toString('base64');
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      { name: 'ambit', cluster: { server, 'certificate-authority-data': base64(ca.pem) } },
    ],
    users: [
      {
        name: 'ambit',
        user: { 'client-certificate-data': base64(pem), 'client-key-data': base64(key) },
      },
    ],
    contexts: [{ name: 'ambit', context: { cluster: 'ambit', user: 'ambit' } }],
    'current-context': 'ambit',
  };
  writeFileSync(file, `${JSON.stringify(config, undefined, 2)}\n`, { mode: 0o600 });
}
