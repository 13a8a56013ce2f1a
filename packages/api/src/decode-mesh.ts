import type { Decoder, Fields } from './decode.ts';
import { boolean, integer, list, number, object, oneOf, text, union } from './decode.ts';
import { hostname, labels, port, trustDomain } from './decode-nouns.ts';
import type { MeshSettings } from './mesh.ts';
import type { AccessLogFormat, ExtensionProvider, ProviderAddress } from './provider.ts';

const address: Decoder<ProviderAddress> = object((f) => ({
  host: f.get('host', hostname),
  port: f.get('port', port),
  ...f.optional('namespace', text),
}));

function authorizer(f: Fields) {
  return {
    name: f.get('name', text),
    address: f.get('address', address),
    timeoutMs: f.get('timeoutMs', number),
    failOpen: f.get('failOpen', boolean),
    statusOnError: f.get('statusOnError', integer),
    ...f.optional(
      'body',
      object((b) => ({
        maxBytes: b.get('maxBytes', integer),
        allowPartial: b.get('allowPartial', boolean),
        packAsBytes: b.get('packAsBytes', boolean),
      })),
    ),
  };
}

const format: Decoder<AccessLogFormat> = object((f): AccessLogFormat => {
  const kind = f.get('kind', oneOf('default-text', 'text', 'json'));
  switch (kind) {
    case 'default-text':
      return { kind };
    case 'text':
      return { kind, text: f.get('text', text) };
    case 'json':
      return { kind, fields: f.get('fields', labels) };
  }
});

const provider: Decoder<ExtensionProvider> = union<ExtensionProvider>('kind', {
  'ext-authz-http': object((f) => ({
    kind: 'ext-authz-http',
    ...authorizer(f),
    pathPrefix: f.get('pathPrefix', text),
    includeRequestHeaders: f.get('includeRequestHeaders', list(text)),
    additionalHeaders: f.get('additionalHeaders', labels),
    headersToUpstreamOnAllow: f.get('headersToUpstreamOnAllow', list(text)),
    headersToDownstreamOnDeny: f.get('headersToDownstreamOnDeny', list(text)),
    headersToDownstreamOnAllow: f.get('headersToDownstreamOnAllow', list(text)),
  })),
  'ext-authz-grpc': object((f) => ({ kind: 'ext-authz-grpc', ...authorizer(f) })),
  opentelemetry: object((f) => ({
    kind: 'opentelemetry',
    name: f.get('name', text),
    address: f.get('address', address),
    ...f.optional(
      'http',
      object((h) => ({
        path: h.get('path', text),
        timeoutMs: h.get('timeoutMs', number),
        headers: h.get('headers', labels),
      })),
    ),
    maxTagLength: f.get('maxTagLength', integer),
  })),
  zipkin: object((f) => ({
    kind: 'zipkin',
    name: f.get('name', text),
    address: f.get('address', address),
    path: f.get('path', text),
    maxTagLength: f.get('maxTagLength', integer),
  })),
  'access-log': object((f) => ({
    kind: 'access-log',
    name: f.get('name', text),
    path: f.get('path', text),
    format: f.get('format', format),
  })),
  prometheus: object((f) => ({ kind: 'prometheus', name: f.get('name', text) })),
});

export const decodeMesh: Decoder<MeshSettings> = object((f) => ({
  trustDomain: f.get('trustDomain', trustDomain),
  trustDomainAliases: f.get('trustDomainAliases', list(trustDomain)),
  roots: f.get('roots', list(text)),
  clusterId: f.get('clusterId', text),
  rootNamespace: f.get('rootNamespace', text),
  providers: f.get('providers', list(provider)),
  defaultProviders: f.get(
    'defaultProviders',
    object((d) => ({
      metrics: d.get('metrics', list(text)),
      accessLogging: d.get('accessLogging', list(text)),
      tracing: d.get('tracing', list(text)),
    })),
  ),
  traceSamplingPercent: f.get('traceSamplingPercent', number),
}));
