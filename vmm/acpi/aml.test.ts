import { describe, expect, it } from 'vitest';
import * as aml from './aml.ts';
import * as res from './resources.ts';

const bytes = (term: Uint8Array | readonly number[]) => [...term];

describe('package lengths', () => {
  it.each([
    [0, [0x01]],
    [62, [0x3f]],
    [63, [0x41, 0x04]],
    [4093, [0x4f, 0xff]],
    [4094, [0x81, 0x00, 0x01]],
    [2 ** 20 - 4, [0x8f, 0xff, 0xff]],
    [2 ** 20 - 3, [0xc1, 0x00, 0x00, 0x01]],
  ])('%i bytes', (contents, expected) => {
    expect(aml.packageLength(contents)).toEqual(expected);
  });

  it('refuses what does not fit in 28 bits', () => {
    expect(() => aml.packageLength(2 ** 28)).toThrow(RangeError);
  });
});

describe('names', () => {
  it.each([
    ['_CRS', '_CRS', []],
    ['\\_S5', '_S5_', [0x5c]],
    ['\\_SB.PCI0', '_SB_PCI0', [0x5c, 0x2e]],
    ['A.B.C', 'A___B___C___', [0x2f, 3]],
  ])('%s', (path, text, prefix) => {
    expect(aml.nameString(path)).toEqual([...prefix, ...aml.ascii(text)]);
  });

  it.each(['', 'TOOLONG', 'lower', '1ABC', 'A..B'])('refuses %j', (path) => {
    expect(() => aml.nameString(path)).toThrow(RangeError);
  });
});

describe('data', () => {
  it.each([
    [0, [0x00]],
    [1, [0x01]],
    [2, [0x0a, 0x02]],
    [0x100, [0x0b, 0x00, 0x01]],
    [0x10000, [0x0c, 0x00, 0x00, 0x01, 0x00]],
    [0x1_0000_0000, [0x0e, 0, 0, 0, 0, 1, 0, 0, 0]],
  ])('integer %i', (value, expected) => {
    expect(bytes(aml.integer(value))).toEqual(expected);
  });

  it('encodes identifiers as firmware does', () => {
    expect(bytes(aml.eisaId('PNP0A08'))).toEqual([0x0c, 0x41, 0xd0, 0x0a, 0x08]);
    expect(() => aml.eisaId('PNP')).toThrow(RangeError);
    expect(bytes(aml.uuid('33db4d5b-1ff7-401c-9657-7441c03dd766')).slice(4)).toEqual([
      0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40, 0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66,
    ]);
  });

  it('wraps strings, buffers and packages', () => {
    expect(bytes(aml.string('ab'))).toEqual([0x0d, 0x61, 0x62, 0]);
    expect(bytes(aml.buffer([7, 8]))).toEqual([0x11, 0x05, 0x0a, 2, 7, 8]);
    expect(bytes(aml.pack(aml.integer(1), aml.integer(5)))).toEqual([0x12, 0x05, 2, 0x01, 0x0a, 5]);
  });
});

describe('terms', () => {
  it('encodes a method', () => {
    const method = aml.method('_STA', 0, aml.returns(aml.integer(15)));
    expect(bytes(method)).toEqual([0x14, 0x09, 0x5f, 0x53, 0x54, 0x41, 0x00, 0xa4, 0x0a, 0x0f]);
  });

  it('encodes a condition, a device and a scope', () => {
    expect(bytes(aml.ifThen(aml.equal(aml.arg(0), aml.integer(1)), aml.returns(aml.arg(1))))).toEqual([
      0xa0, 0x06, 0x93, 0x68, 0x01, 0xa4, 0x69,
    ]);
    expect(bytes(aml.device('COM1'))).toEqual([0x5b, 0x82, 0x05, ...aml.ascii('COM1')]);
    expect(bytes(aml.scope('\\_SB'))).toEqual([0x10, 0x06, 0x5c, ...aml.ascii('_SB_')]);
  });
});

describe('resources', () => {
  it('encodes the small descriptors', () => {
    expect(bytes(res.ioPorts(0x3f8, 8))).toEqual([0x47, 1, 0xf8, 3, 0xf8, 3, 1, 8]);
    expect(bytes(res.isaIrq(8))).toEqual([0x22, 0x00, 0x01]);
    expect(bytes(res.resourceTemplate())).toEqual([0x11, 0x05, 0x0a, 2, 0x79, 0]);
  });

  it('encodes windows with an inclusive end', () => {
    expect(bytes(res.busWindow(0, 255))).toEqual([0x88, 13, 0, 2, 0x0c, 0, 0, 0, 0, 0, 0xff, 0, 0, 0, 0, 1]);
    const window = bytes(res.memoryWindow64({ start: 2 ** 36, size: 2 ** 39 }));
    expect(window.slice(0, 6)).toEqual([0x8a, 43, 0, 0, 0x0c, 3]);
    expect(window.slice(22, 30)).toEqual([0xff, 0xff, 0xff, 0xff, 0x8f, 0, 0, 0]);
    expect(window.slice(38)).toEqual([0, 0, 0, 0, 0x80, 0, 0, 0]);
  });
});
