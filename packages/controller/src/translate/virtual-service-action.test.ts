import { expect, test } from '@jest/globals';

import { compileSpec } from '../../test/virtual-services.ts';

const actionOf = (body: object) => {
  const directResponse = { status: 200, body };
  const { http, problems } = compileSpec({ hosts: ['reviews'], http: [{ directResponse }] });
  return { action: http[0]!.action, fields: problems.map(({ field }) => field) };
};

test('the bytes of a direct response are kept, also where they are no text', () => {
  for (const bytes of ['//4AgA==', '__4AgA']) {
    expect(actionOf({ bytes })).toMatchObject({
      action: { kind: 'respond', body: '//4AgA==', encoding: 'base64' },
      fields: [],
    });
  }
  const text = Buffer.from('é\n').toString('base64');
  const { action } = actionOf({ bytes: text });
  expect(action).toMatchObject({ body: 'é\n' });
  expect(action).not.toHaveProperty('encoding');
  const { action: closed, fields } = actionOf({ bytes: 'a!b' });
  expect(fields).toEqual(['spec.http[0].directResponse.body.bytes']);
  expect(closed).toMatchObject({ targets: [{ target: { kind: 'missing' } }] });
});
