import { expect, test } from 'vitest';
import { parseDevice } from '../qemu/devices.ts';
import { commandWords, parseArgs } from './args.ts';

test('options end at the first word that is none, and the command keeps its own', () => {
  const request = parseArgs(['--device', 'e1000e', '--kernel=6.12', 'ls', '--device', 'x']);
  expect(request.options.devices).toEqual([parseDevice('e1000e')]);
  expect(request.options.kernel).toBe('6.12');
  expect(request.command).toEqual(['ls', '--device', 'x']);
});

test('two dashes end the options', () => {
  expect(parseArgs(['--quiet', '--', '--help']).command).toEqual(['--help']);
  expect(parseArgs([]).command).toEqual([]);
});

test('--bind holds for every device, wherever it stands, unless the device says otherwise', () => {
  const { options } = parseArgs(['--device', 'igb', '--device', 'nvme,bind=host', '--bind', 'none']);
  expect(options.devices?.map((one) => (typeof one === 'string' ? one : one.bind))).toEqual(['none', 'host']);
});

test.each([
  [['--nonsense'], 'no option --nonsense'],
  [['--device'], '--device needs a value'],
  [['--cpus', '0'], 'whole number above 0'],
  [['--memory', '4G'], 'whole number above 0'],
  [['--accel', 'xen'], 'auto, tcg or kvm'],
  [['--bind', 'uio'], 'not a driver choice'],
])('%j is refused', (words, message) => {
  expect(() => parseArgs(words)).toThrow(message);
});

test('one word goes to the shell when only a shell can understand it', () => {
  expect(commandWords(['ls -l | wc'])).toEqual(['sh', '-c', 'ls -l | wc']);
  expect(commandWords(['/bin/true'])).toEqual(['/bin/true']);
  expect(commandWords(['echo', 'a b'])).toEqual(['echo', 'a b']);
});
