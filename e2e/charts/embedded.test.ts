import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import type { Chart } from './helm.ts';
import { charts, helm, namespace, renderText, root } from './helm.ts';

/** Charts that are parts of another one, as of a platform's. */
let parent: string;

beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'parent-'));
});

afterEach(() => rmSync(parent, { recursive: true }));

async function renderIn(chart: Chart, values: object) {
  await mkdir(join(parent, 'charts'));
  await symlink(join(root, 'charts', chart), join(parent, 'charts', chart));
  const dependency = { name: chart, version: '*', condition: `${chart}.enabled` };
  const about = { apiVersion: 'v2', name: 'platform', version: '1.0.0', dependencies: [dependency] };
  writeFileSync(join(parent, 'Chart.yaml'), stringify(about));
  writeFileSync(join(parent, 'values.yaml'), stringify(values));
  return helm('template', 'platform', parent, '-n', namespace, '--api-versions', 'gateway.networking.k8s.io/v1/GatewayClass');
}

test.each(charts)('%s does not mind what the other parts share, nor who asks for it', async (chart) => {
  const values = { global: { imageRegistry: 'mine', storageClass: '' }, [chart]: { enabled: true } };
  const { ok, output } = await renderIn(chart, values);
  expect(ok ? '' : output).toBe('');
  expect(output).toContain('# Source: platform/charts/');
});

test('what is wrong of its own is told there, too', async () => {
  const { ok, output } = await renderIn('ambit', { global: { platform: 'moon' } });
  expect(ok).toBe(false);
  expect(output).toMatch(/value must be one of/);
});

test.each<Chart>(['base', 'controller', 'ztunnel', 'cni-redirect', 'ambit'])(
  '%s by itself says which shared value it does not know, and which there are',
  (chart) => {
    const file = join(root, 'charts', chart, 'values.schema.json');
    const schema = JSON.parse(readFileSync(file, 'utf8')) as {
      properties: { global: { properties: object } };
    };
    const known = Object.keys(schema.properties.global.properties);
    expect(() => renderText(chart, { values: { 'global.hubb': 'mine' } })).toThrow(
      `global.hubb is no value of the mesh; there are global.${known.join(', global.')}`,
    );
  },
);

test.each(charts)('%s by itself says that it is not left out by a value of its own', (chart) => {
  expect(() => renderText(chart, { values: { enabled: true } })).toThrow(/by itself it would do/);
});
