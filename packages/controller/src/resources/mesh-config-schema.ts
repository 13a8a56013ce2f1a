import type { TSchema } from 'typebox';

import {
  accessLogSpec,
  defaultProvidersSpec,
  discoverySelectorsSpec,
  providerSpec,
  tracingSpec,
} from './mesh-config.ts';

type Schema = Readonly<Record<string, unknown>>;

const lengthOfTime = String.raw`^([0-9]+(\.[0-9]+)?h)?([0-9]+(\.[0-9]+)?m)?([0-9]+(\.[0-9]+)?s)?([0-9]+(\.[0-9]+)?ms)?$`;
const label = '[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?';
const serviceName = String.raw`^([a-z0-9-]+/)?${label}(\.${label})*$`;

/**
 * What of a MeshConfig can be judged by its form, as a JSON Schema for the value `meshConfig` of the controller's chart: an
 * install is refused for it before there is a webhook to ask. Fields that are not read are let through.
 */
export function meshConfigSchema(): Schema {
  return {
    type: 'object',
    properties: {
      ...propertiesOf(accessLogSpec),
      extensionProviders: { type: 'array', items: plain(providerSpec) },
      defaultProviders: plain(defaultProvidersSpec),
      defaultConfig: { type: 'object', properties: { tracing: plain(tracingSpec) } },
      enableTracing: { type: 'boolean' },
      discoverySelectors: plain(discoverySelectorsSpec),
      pathNormalization: {
        type: 'object',
        additionalProperties: false,
        properties: {
          normalization: { type: 'string', enum: ['DEFAULT', 'DECODE_AND_MERGE_SLASHES'] },
        },
      },
      trustDomain: { type: 'string' },
    },
  };
}

function propertiesOf(schema: TSchema): Schema {
  return plain(schema)['properties'] as Schema;
}

/** Without what only the API server knows; of lengths of time and Services the form. */
function plain(schema: TSchema): Schema {
  return JSON.parse(JSON.stringify(schema), (key, value: unknown) => {
    if (key === 'service') return { ...(value as Schema), pattern: serviceName };
    if (key === 'port') return { ...(value as Schema), minimum: 1, maximum: 65_535 };
    if (typeof value !== 'object' || value === null) return value;
    const { 'x-kubernetes-validations': rules, ...rest } = value as Schema;
    return rules === undefined ? value : { ...rest, pattern: lengthOfTime, minLength: 2 };
  }) as Schema;
}
