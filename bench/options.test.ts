import { describe, expect, it } from 'vitest';
import { parseOptions, UsageError } from './options.ts';

describe('the command line', () => {
  it('has a default for everything', () => {
    expect(parseOptions([])).toEqual({
      help: false,
      pairs: 3,
      exits: 10_000,
      memoryMib: 512,
      kernel: '6.1',
      qemu: '7.2',
      output: 'table',
      quiet: false,
    });
  });

  it('takes values in both spellings', () => {
    const options = parseOptions(['--pairs', '5', '--kernel=/boot/vmlinuz', '--memory=1024', '--json', '--quiet']);
    expect(options).toMatchObject({ pairs: 5, kernel: '/boot/vmlinuz', memoryMib: 1024, output: 'json', quiet: true });
    expect(parseOptions(['--markdown']).output).toBe('markdown');
  });

  it.each([['0'], ['-1'], ['1.5'], ['3x'], [''], ['1e1'], ['101']])('refuses --pairs %j', (value) => {
    expect(() => parseOptions([`--pairs=${value}`])).toThrow(UsageError);
  });

  it('says what is wrong', () => {
    expect(() => parseOptions(['--pairs=0'])).toThrow('--pairs must be a whole number from 1 to 100, not "0"');
    expect(() => parseOptions(['--memory=64'])).toThrow('from 128 to 65536');
    expect(() => parseOptions(['--pear'])).toThrow(UsageError);
    expect(() => parseOptions(['3'])).toThrow(UsageError);
    expect(() => parseOptions(['--json', '--markdown'])).toThrow('not both');
  });
});
