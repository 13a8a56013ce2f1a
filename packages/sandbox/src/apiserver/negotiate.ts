import type { IncludeObject } from './table.ts';

/** The form a client wants its answer in. */
export type Form =
  | { readonly kind: 'plain' }
  | { readonly kind: 'table'; readonly version: string }
  | { readonly kind: 'metadata'; readonly version: string };

interface MediaType {
  readonly type: string;
  readonly parameters: ReadonlyMap<string, string>;
}

/** The media types of an Accept header, in the client's order. */
export function mediaTypes(header: string | undefined): readonly MediaType[] {
  return (header ?? '').split(',').map((part) => {
    const [type = '', ...parameters] = part.split(';').map((piece) => piece.trim());
    return {
      type: type.toLowerCase(),
      parameters: new Map(
        parameters.map((parameter) => {
          const [name = '', value = ''] = parameter.split('=');
          return [name.trim(), value.trim()] as const;
        }),
      ),
    };
  });
}

/** The first form the client accepts that can be had; JSON stands in where it asks for an encoding we do not write. */
export function formOf(accept: string | undefined): Form {
  for (const { type, parameters } of mediaTypes(accept)) {
    if (type !== 'application/json') continue;
    const version = parameters.get('v') ?? 'v1';
    if (version !== 'v1' && version !== 'v1beta1') continue;
    const as = parameters.get('as');
    if (as === 'Table') return { kind: 'table', version };
    if (as === 'PartialObjectMetadata' || as === 'PartialObjectMetadataList')
      return { kind: 'metadata', version };
    if (as === undefined) return { kind: 'plain' };
  }
  return { kind: 'plain' };
}

/** The version of aggregated discovery the client would have; undefined where it takes only the old form. */
export function discoveryVersion(accept: string | undefined): string | undefined {
  const found = mediaTypes(accept).find(
    ({ parameters }) =>
      parameters.get('as') === 'APIGroupDiscoveryList' &&
      parameters.get('g') === 'apidiscovery.k8s.io',
  );
  const version = found?.parameters.get('v');
  return version === 'v2' || version === 'v2beta1' ? version : undefined;
}

export function includeOf(value: string | null): IncludeObject {
  return value === 'None' || value === 'Object' ? value : 'Metadata';
}
