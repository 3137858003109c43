import { describe, expect, it } from 'vitest';
import { CodeBuffer } from './code-buffer.ts';
import { BATCHES, EXIT_KINDS, exitPayload, parseExitOutput } from './exit-payload.ts';

const hex = (value: number) => value.toString(16).padStart(16, '0');

describe('machine code', () => {
  it('resolves jumps both ways', () => {
    const code = new CodeBuffer();
    code.label('back').bytes(0x90).shortJump(0x75, 'back').shortJump(0xeb, 'on').bytes(0x90).label('on').call('back');
    expect([...code.finish()]).toEqual([0x90, 0x75, 0xfd, 0xeb, 0x01, 0x90, 0xe8, 0xf5, 0xff, 0xff, 0xff]);
  });

  it('refuses what cannot be', () => {
    expect(() => new CodeBuffer().shortJump(0xeb, 'nowhere').finish()).toThrow('no label nowhere');
    expect(() => new CodeBuffer().label('a').label('a')).toThrow('taken');
    const far = new CodeBuffer().label('a').bytes(...Array<number>(200).fill(0x90));
    expect(() => far.shortJump(0xeb, 'a').finish()).toThrow('too far');
  });
});

describe('the payload', () => {
  const file = exitPayload(12_345);
  const view = new DataView(file.buffer);

  it('is an ELF whose note names an entry inside its only segment', () => {
    expect(view.getUint32(0, true)).toBe(0x464c_457f);
    const [load, note] = [52, 84];
    expect([view.getUint32(load, true), view.getUint32(note, true)]).toEqual([1, 4]);
    const [offset, , gpa, size] = [4, 8, 12, 16].map((at) => view.getUint32(load + at, true));
    expect(offset! + size!).toBe(file.length);
    const noteAt = view.getUint32(note + 4, true);
    expect(Buffer.from(file.subarray(noteAt + 12, noteAt + 15)).toString()).toBe('Xen');
    expect(view.getUint32(noteAt + 8, true)).toBe(18);
    expect(view.getUint32(noteAt + 16, true)).toBe(gpa);
  });

  it('carries the number of exits once for each batch', () => {
    const needle = Buffer.from([0xb9, 0x39, 0x30, 0, 0]);
    let found = 0;
    for (let at = file.indexOf(0xb9); at >= 0; at = file.indexOf(0xb9, at + 1)) {
      if (needle.equals(file.subarray(at, at + 5))) found++;
    }
    expect(found).toBe(BATCHES * EXIT_KINDS.length);
  });
});

describe('its output', () => {
  const lines = (start: number, read: number[], write: number[], end: number) =>
    [start, ...read, ...write, end].map(hex).join('\r\n');

  it('leaves the first batch of each kind out', () => {
    const text = `SeaBIOS (version x)\r\n${lines(1000, [9000, 100, 200, 300, 400], [9000, 10, 20, 30, 40], 51_000)}\r\n`;
    expect(parseExitOutput(text, 10)).toEqual({
      ticks: { read: [10, 20, 30, 40], write: [1, 2, 3, 4] },
      totalTicks: 50_000,
    });
  });

  it('must be whole', () => {
    expect(() => parseExitOutput('0000000000000001\n', 10)).toThrow('1 lines of numbers instead of 12');
  });
});
