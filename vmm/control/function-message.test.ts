import { expect, test } from 'vitest';
import { CODEC } from '../../proto/index.ts';
import type { FunctionReport } from '../pci/function.ts';
import { functionFromMessage, functionToMessage } from './function-message.ts';

const report: FunctionReport = {
  label: '0000:01:00.0 8086:10d3',
  ids: { vendor: 0x1234, revision: 0 },
  msixRelocation: 'moved to BAR5, added to 4 KiB',
  trappedPages: [{ bar: 0, offset: 0x3000, why: 'beside msix', accesses: 2 ** 40, isHot: true }],
  rom: {
    source: 'file:/roms/nic.rom',
    sizeBytes: 65536,
    offered: true,
    images: ['x86 8086:10d3, 64 KiB'],
    faults: ['its checksum is wrong'],
  },
  address: { bus: 0, device: 1, function: 0 },
  bars: [
    {
      index: 0,
      sizeBytes: 2 ** 40,
      kind: 'memory',
      is64: true,
      prefetchable: true,
      gpa: 2 ** 45,
      p2p: 'no (not decoded)',
      areas: [
        { offset: 0, sizeBytes: 4096, mode: 'trap', why: 'msix-table' },
        { offset: 4096, sizeBytes: 2 ** 40 - 4096, mode: 'direct' },
      ],
      wc: {
        mode: 'host',
        guestWc: 'yes',
        areas: [
          { offset: 0, sizeBytes: 4096, guestWc: false, why: 'trapped' },
          { offset: 4096, sizeBytes: 2 ** 40 - 4096, guestWc: true },
        ],
        guestWcAdvertised: true,
        hostType: 'uc- (assumed)',
        hostWc: 'not available on this kernel',
        evidence: ['TDP is on', 'PAT is in CPUID'],
        largestPageBytes: 2 ** 30,
      },
    },
    { index: 2, sizeBytes: 32, kind: 'port', is64: false, prefetchable: false, areas: [] },
  ],
  interrupts: { mode: 'msix', available: 5, routed: 3 },
  resets: [
    { when: 'boot', method: 'flr', ok: true },
    { when: 'guest', method: 'hot-reset', ok: false, faults: ['MSI-X at 0x70 is gone'] },
  ],
};

test('the report on a function survives the wire, every field of it', () => {
  const bytes = CODEC.encode('FunctionReport', functionToMessage(report));
  expect(functionFromMessage(CODEC.decode('FunctionReport', bytes))).toEqual(report);
});

test('so does that on a function whose guest is off', () => {
  const off: FunctionReport = {
    label: 'x',
    bars: [],
    interrupts: { mode: 'none', available: 0, routed: 0 },
    resets: [],
  };
  expect(
    functionFromMessage(CODEC.decode('FunctionReport', CODEC.encode('FunctionReport', functionToMessage(off)))),
  ).toEqual(off);
});

test('a number beyond 2^53 is refused, not rounded', () => {
  const message = {
    index: 0,
    sizeBytes: 2n ** 53n + 1n,
    kind: 'BAR_KIND_MEMORY',
    is64: true,
    prefetchable: false,
  } as const;
  const fn = { label: 'x', bars: [{ ...message, areas: [] }], resets: [], trappedPages: [] };
  expect(() => functionFromMessage(fn)).toThrow('9007199254740993');
});
