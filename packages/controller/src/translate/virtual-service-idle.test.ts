import { describe, expect, test } from '@jest/globals';
import type { Port } from '@ambit/api';

import { compileSpec, destination } from '../../test/virtual-services.ts';

const route = [destination('reviews')];
const mirror = { host: 'reviews' };

function told(spec: object, unseen: readonly number[] = []): readonly string[] {
  const { problems } = compileSpec(
    { hosts: ['reviews'], ...spec },
    { unseen: () => unseen as Port[] },
  );
  return problems.map((one) => `${one.admissible === true ? 'warn' : 'refuse'} ${one.field}`);
}

describe('what does nothing is told, and refused where Istio refuses it', () => {
  const at = (fields: string) =>
    fields.split(' ').map((field) => field.replace(':', ' spec.http[0].'));
  test.each<readonly [object, string]>([
    [{ directResponse: { status: 200 }, rewrite: { uri: '/' } }, 'refuse:rewrite'],
    [{ redirect: { uri: '/' }, rewrite: { uri: '/' } }, 'refuse:rewrite'],
    [
      { directResponse: { status: 200 }, mirror, retries: { attempts: 1 } },
      'warn:retries warn:mirror',
    ],
    [{ redirect: { uri: '/' }, mirrors: [{ destination: mirror }] }, 'warn:mirrors'],
    [{ redirect: { uri: '/' }, timeout: '1s' }, 'warn:timeout'],
    [{ route, mirrorPercentage: { value: 5 } }, 'warn:mirrorPercentage'],
    [{ route, mirrorPercent: 5 }, 'warn:mirrorPercent'],
    [{ route, match: [{ uri: { exact: '' } }] }, 'warn:match[0].uri.exact'],
    [{ route, match: [{ uri: { regex: '' } }] }, 'refuse:match[0].uri.regex'],
    [{ route, match: [{ method: { prefix: '' } }] }, 'refuse:match[0].method.prefix'],
    [{ route, match: [{ headers: { a: { prefix: '' } } }] }, 'refuse:match[0].headers[a].prefix'],
  ])('%j', (spec, fields) => {
    expect(told({ http: [spec] })).toEqual(at(fields));
  });

  test.each<object>([
    { route, mirror, mirrorPercentage: { value: 5 }, retries: { attempts: 1 }, timeout: '1s' },
    { route, rewrite: { uri: '/' } },
    { route, match: [{ uri: { prefix: '' } }] },
    { route, match: [{ headers: { a: { exact: '' }, b: {} } }] },
  ])('not told: %j', (spec) => {
    expect(told({ http: [spec] })).toEqual([]);
  });

  test('a VirtualService without routes', () => {
    expect(told({})).toEqual(['refuse spec']);
    expect(told({ http: [], tcp: [] })).toEqual(['refuse spec']);
  });

  test('http routes of ports on which no request can be seen', () => {
    expect(told({ http: [{ route }] }, [8080])).toEqual(['warn spec.http']);
    expect(told({ tcp: [{ route }] }, [8080])).toEqual([]);
    expect(told({ hosts: ['cart'], http: [{ route }] }, [8080])).toEqual([]);
    expect(told({ hosts: ['cart'], http: [{ route }] }, [8080, 9090])).toEqual(['warn spec.http']);
  });
});
