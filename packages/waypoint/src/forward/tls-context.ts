import { constants } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import type { SecureContext } from 'node:tls';
import { createSecureContext } from 'node:tls';
import type { Credential, TlsSource, UpstreamTls } from '@ambit/api';
import { credentialLack } from '@ambit/api';
import { MeshError, errnoCode, messageOf } from '@ambit/core';

/** Files are looked at again after this time, so that renewed certificates are taken up. */
const filesFreshMs = 10_000;
const maxFileBytes = 1024 * 1024;
const maxRemembered = 256;

type Own = Extract<UpstreamTls, { readonly mode: 'simple' | 'mutual' }>;
type Files = Extract<TlsSource, { readonly kind: 'files' }>;
type Pem = Pick<Credential, 'certificate' | 'privateKey' | 'ca' | 'crl'>;

/** The certificates that endpoints are called with, each read and parsed once for each state of them. */
export class TlsContexts {
  readonly #credential: (name: string) => Credential | undefined;
  readonly #byCredential = new WeakMap<Credential, Map<Own['mode'], SecureContext>>();
  readonly #byFiles = new Map<
    string,
    { readonly readAtMs: number; readonly content: string; readonly context: SecureContext }
  >();
  readonly #now: () => number;

  constructor(
    credential: (name: string) => Credential | undefined,
    now: () => number = () => performance.now(),
  ) {
    this.#credential = credential;
    this.#now = now;
  }

  /** Throws a MeshError that says what is missing or broken. */
  async contextOf(tls: Own): Promise<SecureContext> {
    const { source } = tls;
    return source.kind === 'credential'
      ? this.#ofCredential(tls, source.name)
      : this.#ofFiles(tls, source);
  }

  #ofCredential(tls: Own, name: string): SecureContext {
    const credential = this.#credential(name);
    if (credential === undefined)
      throw new MeshError('tls/credential', `there is no usable Secret ${name}`);
    const lack = credentialLack(credential, tls);
    if (lack !== undefined) throw new MeshError('tls/credential', `Secret ${name}: ${lack}`);
    let contexts = this.#byCredential.get(credential);
    if (contexts === undefined) {
      contexts = new Map();
      this.#byCredential.set(credential, contexts);
    }
    let context = contexts.get(tls.mode);
    if (context === undefined) {
      context = makeContext(credential, tls.mode, `Secret ${name}`);
      contexts.set(tls.mode, context);
    }
    return context;
  }

  async #ofFiles(tls: Own, files: Files): Promise<SecureContext> {
    const id = JSON.stringify([tls.mode, files]);
    const known = this.#byFiles.get(id);
    const now = this.#now();
    if (known !== undefined && now - known.readAtMs < filesFreshMs) return known.context;
    const pem = await readPem(files);
    const content = JSON.stringify(pem);
    const context =
      known?.content === content ? known.context : makeContext(pem, tls.mode, 'the files');
    this.#byFiles.delete(id);
    const [oldest] = this.#byFiles.size >= maxRemembered ? this.#byFiles.keys() : [];
    if (oldest !== undefined) this.#byFiles.delete(oldest);
    this.#byFiles.set(id, { readAtMs: now, content, context });
    return context;
  }
}

async function readPem(files: Files): Promise<Pem> {
  const one = async (path: string | undefined): Promise<string | undefined> =>
    path === undefined ? undefined : readOne(path);
  const [ca, certificate, privateKey, crl] = await Promise.all([
    one(files.ca === 'system' ? undefined : files.ca),
    one(files.certificate),
    one(files.privateKey),
    one(files.crl),
  ]);
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(certificate === undefined ? {} : { certificate }),
    ...(privateKey === undefined ? {} : { privateKey }),
    ...(crl === undefined ? {} : { crl }),
  };
}

async function readOne(path: string): Promise<string> {
  try {
    const facts = await stat(path);
    if (!facts.isFile()) throw new MeshError('tls/credential', 'it is no file');
    if (facts.size > maxFileBytes) throw new MeshError('tls/credential', 'it is too big');
    return await readFile(path, 'utf8');
  } catch (error) {
    const why = errnoCode(error) ?? messageOf(error);
    throw new MeshError('tls/credential', `${path} cannot be read: ${why}`, { cause: error });
  }
}

/** TLS 1.2 or later; no tickets, so that every connection proves itself anew. */
function makeContext(pem: Pem, mode: Own['mode'], what: string): SecureContext {
  try {
    return createSecureContext({
      ...(pem.ca === undefined ? {} : { ca: pem.ca }),
      ...(pem.crl === undefined ? {} : { crl: pem.crl }),
      ...(mode === 'mutual' ? { cert: pem.certificate, key: pem.privateKey } : {}),
      minVersion: 'TLSv1.2',
      secureOptions: constants.SSL_OP_NO_TICKET,
    });
  } catch (error) {
    // OpenSSL's words name what is wrong and never what was given.
    throw new MeshError(
      'tls/credential',
      `${what} cannot be used: ${errnoCode(error) ?? 'broken'}`,
    );
  }
}
