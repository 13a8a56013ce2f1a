import { describe, expect, test } from '@jest/globals';
import { planRoot, renderRootScript, resolveLinks, type MachineFiles } from './container-root.ts';

const links = new Map([
  ['/var/run', '/run'],
  ['/opt/here', '../srv'],
  ['/loop', '/loop'],
]);
const directories = new Map([
  ['/', ['etc', 'var', 'usr', 'opt', 'srv', 'run']],
  ['/etc', ['hosts', 'passwd']],
  ['/var', ['run', 'lib']],
  ['/var/lib', ['dpkg']],
]);
const machine: MachineFiles = {
  list: (path) => directories.get(path),
  link: (path) => links.get(path),
};

describe("a container's root", () => {
  test('a mount goes where the links of its path lead', () => {
    expect(resolveLinks(machine, '/var/run/secrets/token')).toBe('/run/secrets/token');
    expect(resolveLinks(machine, '/opt/here/x/../y')).toBe('/srv/y');
    expect(typeof resolveLinks(machine, '/loop/x')).toBe('string');
  });

  test('directories on the way to a mount are fresh, and everything else shows through', () => {
    const mount = {
      source: '/tmp/v',
      target: '/var/lib/new/place',
      kind: 'directory',
      readOnly: true,
    } as const;
    const plan = planRoot(machine, [mount]);
    expect(plan.directories).toEqual(
      expect.arrayContaining(['/var', '/var/lib', '/var/lib/new', '/var/lib/new/place']),
    );
    expect(plan.shownThrough.get('/var')).toEqual(['run']);
    expect(plan.shownThrough.get('/var/lib')).toEqual(['dpkg']);
    expect(plan.shownThrough.get('/')).toEqual(['usr', 'opt', 'srv']);
  });

  test('a file is mounted on a file that does not show through from the machine', () => {
    const plan = planRoot(machine, [
      { source: '/tmp/h', target: '/etc/hosts', kind: 'file', readOnly: false },
    ]);
    expect(plan.files).toEqual(['/etc/hosts']);
    expect(plan.shownThrough.get('/etc')).toEqual(['passwd']);
  });

  test('what a pod names is quoted for the shell', () => {
    const hostile = "/x'; touch /tmp/owned; '";
    const mount = { source: hostile, target: hostile, kind: 'directory', readOnly: false } as const;
    const plan = planRoot(machine, [mount]);
    const text = renderRootScript({
      plan,
      root: '/r',
      hidden: [],
      copies: new Map(),
      hostname: hostile,
      workingDir: hostile,
      path: hostile,
    });
    expect(text).not.toContain(hostile);
  });
});
