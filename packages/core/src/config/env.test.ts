import { describe, expect, test } from '@jest/globals';
import { parseDurationMs } from './duration.ts';
import { EnvReader, envOf } from './env.ts';

describe('settings', () => {
  test('are read with their defaults', () => {
    const env = new EnvReader(
      envOf({ NAME: 'x', PORT: '8080', LIST: 'a, b,', WAIT: '1m30s', ON: 'true', EMPTY: '' }),
    );
    expect(env.string('NAME')).toBe('x');
    expect(env.port('PORT', 1)).toBe(8080);
    expect(env.list('LIST', [])).toEqual(['a', 'b']);
    expect(env.durationMs('WAIT', 1)).toBe(90_000);
    expect(env.boolean('ON', false)).toBe(true);
    expect(env.string('EMPTY', 'fallback')).toBe('fallback');
    expect(env.hostPort('HOST', '[fd00::1]:15012')).toEqual({ host: 'fd00::1', port: 15012 });
    expect(() => env.finish()).not.toThrow();
  });

  test('that are wrong are told all at once, by name, with the form they must have', () => {
    const env = new EnvReader(
      envOf({ PORT: '70000', WAIT: 'soon', ON: 'yes', LEVEL: 'loud', HOST: 'nowhere' }),
    );
    env.string('NODE_NAME');
    env.port('PORT', 1);
    env.durationMs('WAIT', 1);
    env.boolean('ON', true);
    env.oneOf('LEVEL', ['info', 'debug'], 'info');
    env.hostPort('HOST', 'a:1');
    expect(() => env.finish()).toThrow(
      /NODE_NAME: is not set[^]*PORT: "70000"[^]*WAIT: "soon"[^]*ON: "yes"[^]*LEVEL: "loud" is not one of info, debug[^]*HOST: "nowhere" is not HOST:PORT/,
    );
  });

  test('no timer is set for longer than one can wait, since it would end at once', () => {
    const env = new EnvReader(envOf({ SHORT: '596h', LONG: '597h', CLOCK: '597h' }));
    expect(env.durationMs('SHORT', 1)).toBe(596 * 3_600_000);
    expect(env.durationMs('LONG', 1)).toBe(1);
    expect(env.durationMs('CLOCK', 1, { maxMs: 1000 * 3_600_000 })).toBe(597 * 3_600_000);
    expect(() => env.finish()).toThrow(
      /^[^]*:\n  LONG: "597h" is not a duration .* of 596h at most$/,
    );
  });

  test.each([
    ['250ms', 250],
    ['5s', 5000],
    ['1.5s', 1500],
    ['24h', 86_400_000],
    ['1h30m', 5_400_000],
    ['', undefined],
    ['5', undefined],
    ['-5s', undefined],
    ['5 s', undefined],
    ['1e3s', undefined],
  ])('the duration %j is %p ms', (text, ms) => {
    expect(parseDurationMs(text)).toBe(ms);
  });
});
