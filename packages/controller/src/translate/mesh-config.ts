import type { DefaultProviders, ExtensionProvider } from '@ambit/api';
import type { TSchema } from 'typebox';
import type { Static } from 'typebox';
import { Type } from 'typebox';

import type { Problem } from '../kube/decode/fields.ts';
import { field, list, text } from '../kube/decode/fields.ts';
import { problemsBelow } from '../resources/crd.ts';
import {
  accessLogSpec,
  defaultProvidersSpec,
  discoverySelectorsSpec,
  pathNormalizationSpec,
  tracingSpec,
} from '../resources/mesh-config.ts';
import type { NamespaceSelector } from './namespace-selector.ts';
import { compileNamespaceSelector } from './namespace-selector.ts';
import { accessLogFormat, compileProvider, formatProblem, providerAddress } from './provider.ts';

/** What the mesh's owner says for all of it: MeshConfig as far as it is read. */
export interface MeshConfig {
  readonly providers: readonly ExtensionProvider[];
  readonly defaultProviders: DefaultProviders;
  readonly traceSamplingPercent: number;
  /** Of which namespaces objects are read; of all where it is empty. */
  readonly discoverySelectors: readonly NamespaceSelector[];
  readonly problems: readonly Problem[];
}

const defaultSamplingPercent = 1;
const envoyLog = {
  kind: 'access-log',
  name: 'envoy',
  path: '/dev/stdout',
  format: { kind: 'default-text' },
} as const satisfies ExtensionProvider;
const prometheus: ExtensionProvider = { kind: 'prometheus', name: 'prometheus' };

/** Where there is no ConfigMap: requests are counted and logged as ever. */
export const defaultMeshConfig: MeshConfig = {
  providers: [prometheus, envoyLog],
  defaultProviders: { metrics: ['prometheus'], accessLogging: ['envoy'], tracing: [] },
  traceSamplingPercent: defaultSamplingPercent,
  discoverySelectors: [],
  problems: [],
};

/** Names of the providers that can be asked to authorize. */
export function authorizersOf(config: MeshConfig = defaultMeshConfig): ReadonlySet<string> {
  const asked = config.providers.filter(({ kind }) => kind.startsWith('ext-authz-'));
  return new Set(asked.map(({ name }) => name));
}

/** Fields that are decided elsewhere or whose default is what is done anyway; nothing needs to be said of them. */
const silent = new Set([
  'rootNamespace',
  'trustDomain',
  'trustDomainAliases',
  'enablePrometheusMerge',
]);
const silentProxy = new Set([
  'discoveryAddress',
  'tracing',
  'proxyMetadata',
  'holdApplicationUntilProxyStarts',
]);

/**
 * Compiles a parsed MeshConfig. What is wrong with a part is told, and of that part the last good one stays; what was
 * never good is left out, and whoever names it is refused.
 */
export function compileMeshConfig(
  mesh: unknown,
  object: string,
  last: MeshConfig = defaultMeshConfig,
): MeshConfig {
  const compiling = new Compiling(mesh, object, last);
  return compiling.compile();
}

type Read<S extends TSchema> =
  { readonly ok: true; readonly value: Static<S> } | { readonly ok: false };

class Compiling {
  readonly #mesh: unknown;
  readonly #object: string;
  readonly #last: MeshConfig;
  readonly #problems: Problem[] = [];

  constructor(mesh: unknown, object: string, last: MeshConfig) {
    this.#mesh = mesh;
    this.#object = object;
    this.#last = last;
  }

  compile(): MeshConfig {
    const own = this.#ownProviders();
    const log = this.#accessLog();
    const tracing = this.#part(tracingSpec, 'defaultConfig', 'tracing');
    const defaults = this.#part(defaultProvidersSpec, 'defaultProviders');
    const legacy = tracing.ok ? this.#legacyTracer(tracing.value.zipkin?.address) : undefined;
    const byName = new Map<string, ExtensionProvider>();
    for (const one of [
      prometheus,
      log ?? envoyLog,
      ...(legacy === undefined ? [] : [legacy]),
      ...own,
    ])
      byName.set(one.name, one);
    const given = defaults.ok ? defaults.value : this.#last.defaultProviders;
    const defaultProviders: DefaultProviders = {
      metrics: given.metrics ?? ['prometheus'],
      accessLogging: given.accessLogging ?? (log === undefined ? [] : ['envoy']),
      tracing: given.tracing ?? (legacy === undefined ? [] : [legacy.name]),
    };
    this.#checkNames(defaultProviders, byName);
    this.#pathNormalization();
    this.#unread();
    return {
      providers: [...byName.values()],
      defaultProviders,
      traceSamplingPercent: tracing.ok
        ? (tracing.value.sampling ?? defaultSamplingPercent)
        : this.#last.traceSamplingPercent,
      discoverySelectors: this.#discoverySelectors(),
      problems: this.#problems,
    };
  }

  #report(path: string, message: string, admissible?: true): void {
    const problem = { object: this.#object, field: `data.mesh: ${path}`, message };
    this.#problems.push(admissible === undefined ? problem : { ...problem, admissible });
  }

  #part<S extends TSchema>(schema: S, ...path: readonly string[]): Read<S> {
    return this.#checked(schema, path.join('.'), field(this.#mesh, ...path) ?? {});
  }

  #checked<S extends TSchema>(schema: S, at: string, value: unknown): Read<S> {
    const problems = problemsBelow(at, schema, value);
    for (const { field: path, message } of problems) this.#report(path, message);
    // The schema was just checked; this is the edge where the type is given.
    return problems.length === 0 ? { ok: true, value: value as Static<S> } : { ok: false };
  }

  #ownProviders(): readonly ExtensionProvider[] {
    const raw = field(this.#mesh, 'extensionProviders');
    if (raw !== undefined && !Array.isArray(raw)) {
      this.#report('extensionProviders', 'must be a list');
      return this.#last.providers;
    }
    return list(raw).flatMap((one, index) => {
      const at = `extensionProviders[${index}]`;
      const compiled = compileProvider(one, at, (path, message) => this.#report(path, message));
      if (compiled !== undefined) return [compiled];
      const name = text(field(one, 'name'));
      return this.#last.providers.filter((provider) => provider.name === name);
    });
  }

  /** The log that MeshConfig describes by itself; undefined where it says that there is none. */
  #accessLog(): ExtensionProvider | undefined {
    const mesh = this.#mesh;
    const given = Object.fromEntries(
      Object.keys(accessLogSpec.properties)
        .map((name) => [name, field(mesh, name)] as const)
        .filter(([, value]) => value !== undefined && value !== null),
    );
    const read = this.#checked(accessLogSpec, '', given);
    if (!read.ok) return this.#last.providers.find(({ name }) => name === envoyLog.name);
    const {
      accessLogFile = envoyLog.path,
      accessLogFormat: form = '',
      accessLogEncoding,
    } = read.value;
    if (accessLogFile === '') return undefined;
    const format = accessLogFormat(form, accessLogEncoding ?? 'TEXT');
    if (format === undefined) {
      this.#report(
        'accessLogFormat',
        'must be a JSON object of texts where accessLogEncoding is JSON',
      );
    }
    const problem = format && formatProblem(format);
    if (problem !== undefined) this.#report('accessLogFormat', problem);
    const usable = problem === undefined ? format : undefined;
    return { ...envoyLog, path: accessLogFile, format: usable ?? envoyLog.format };
  }

  /** Tracing as it was configured before there were providers. */
  #legacyTracer(address: string | undefined): ExtensionProvider | undefined {
    if (field(this.#mesh, 'enableTracing') !== true || address === undefined) return undefined;
    const at = address.lastIndexOf(':');
    const found = providerAddress(address.slice(0, at), Number(address.slice(at + 1)));
    if (!found.ok) {
      this.#report('defaultConfig.tracing.zipkin.address', found.error);
      return undefined;
    }
    return {
      kind: 'zipkin',
      name: 'zipkin',
      address: found.value,
      path: '/api/v2/spans',
      maxTagLength: 256,
    };
  }

  #checkNames(defaults: DefaultProviders, known: ReadonlyMap<string, ExtensionProvider>): void {
    for (const [kind, names] of Object.entries(defaults) as [string, readonly string[]][]) {
      for (const name of names) {
        if (!known.has(name)) {
          this.#report(
            `defaultProviders.${kind}`,
            `no provider is called ${JSON.stringify(name)}; add it to extensionProviders`,
          );
        }
      }
    }
  }

  /** One that is wrong leaves all of them as they were: with a part of them other namespaces would be read. */
  #discoverySelectors(): readonly NamespaceSelector[] {
    const at = 'discoverySelectors';
    const read = this.#checked(discoverySelectorsSpec, at, field(this.#mesh, at) ?? []);
    if (!read.ok) return this.#last.discoverySelectors;
    const compiled: NamespaceSelector[] = [];
    for (const [index, spec] of read.value.entries()) {
      const one = compileNamespaceSelector(spec, `${at}[${index}]`);
      if (one.ok) compiled.push(one.value);
      else this.#report(one.error.at, one.error.message);
    }
    return compiled.length === read.value.length ? compiled : this.#last.discoverySelectors;
  }

  #pathNormalization(): void {
    const read = this.#part(pathNormalizationSpec, 'pathNormalization');
    const asked = read.ok ? read.value.normalization : undefined;
    if (asked === undefined || asked === 'DEFAULT' || asked === 'DECODE_AND_MERGE_SLASHES') return;
    this.#report(
      'pathNormalization.normalization',
      `${asked} would let a policy be passed by; paths are decoded and slashes merged as ever, remove it`,
    );
  }

  #unread(): void {
    const read = new Set([
      'extensionProviders',
      'defaultProviders',
      'defaultConfig',
      'enableTracing',
      'discoverySelectors',
      'pathNormalization',
      ...Object.keys(accessLogSpec.properties),
      ...silent,
    ]);
    const shape = Type.Object({ enableTracing: Type.Optional(Type.Boolean()) });
    this.#checked(shape, '', { enableTracing: field(this.#mesh, 'enableTracing') ?? false });
    const tell = (at: string, value: unknown, known: ReadonlySet<string>): void => {
      if (typeof value !== 'object' || value === null) return;
      for (const name of Object.keys(value)) {
        if (!known.has(name))
          this.#report(`${at}${name.slice(0, 100)}`, 'is not read; it has no effect', true);
      }
    };
    tell('', this.#mesh, read);
    tell('defaultConfig.', field(this.#mesh, 'defaultConfig'), silentProxy);
  }
}
