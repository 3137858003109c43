import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BusMemory, LATCH_WORD } from '../bus/bus-memory.ts';
import { SharedBytes, TrapTable } from '../bus/trap-table.ts';
import { ConfigSpace } from './config-space.ts';
import { ConfigStore } from './config-window.ts';
import { type ConfigTarget, keyOf, PciBus } from './pci-bus.ts';

const ECAM = { start: 0xe000_0000, size: 0x10_0000 };

/** Two functions whose config space takes every write, on one bus. */
function bus() {
  const memory = new BusMemory();
  const shared = new SharedBytes(memory);
  const mmio = new TrapTable(memory.mmio, memory, shared);
  const ports = new TrapTable(memory.ports, memory, shared);
  const pci = new PciBus(memory);
  pci.attach(mmio, ports, ECAM);
  const store = new ConfigStore(2);
  const writes: string[] = [];
  const functions = [0, 1].map((number): ConfigTarget => {
    const window = store.allocate();
    const space = new ConfigSpace(window, { read: () => 0, write: () => {} }, 4096);
    space.guestWrite.fill(0xff);
    return {
      window,
      writeConfig: (offset, width, value) => {
        writes.push(`${number}: ${width}@${offset.toString(16)}=${value.toString(16)}`);
        space.write(offset, width, value);
      },
    };
  });
  const addresses = functions.map((_, device) => device);
  pci.apply(new Map(functions.map((fn, device) => [keyOf({ bus: 0, device, function: 0 }), fn])));
  const write = (address: number, width: number, value: number): void => {
    const found = mmio.handlerAt(address);
    found?.handler.write(found.offset, width, value);
  };
  return { memory, ports, store, writes, addresses, write };
}

test('a write that crosses a dword reaches the function in aligned pieces, lowest first', () => {
  const { write, writes, addresses } = bus();
  const base = ECAM.start + (addresses[0]! << 15);
  write(base + 0x10, 4, 0x1122_3344);
  write(base + 0x12, 4, 0x5566_7788);
  write(base + 0x21, 4, 0x99aa_bbcc);
  write(base + 0x33, 2, 0xddee);
  expect(writes).toEqual([
    '0: 4@10=11223344',
    '0: 2@12=7788',
    '0: 2@14=5566',
    '0: 1@21=cc',
    '0: 2@22=aabb',
    '0: 1@24=99',
    '0: 1@33=ee',
    '0: 1@34=dd',
  ]);
});

// Enforces C28, P9.
test('a write of any width anywhere leaves what its bytes one by one would leave', () => {
  const width = fc.constantFrom(1, 2, 4);
  const at = fc.oneof(fc.integer({ min: 0, max: 0x40 }), fc.integer({ min: 0xff0, max: 0xfff }));
  const value = fc.integer({ min: 0, max: 0xffff_ffff });
  fc.assert(
    fc.property(fc.array(fc.tuple(at, width, value), { minLength: 1, maxLength: 8 }), (accesses) => {
      const [whole, bytewise] = [bus(), bus()];
      const base = ECAM.start + (whole.addresses[0]! << 15);
      for (const [offset, bytes, bits] of accesses) {
        whole.write(base + offset, bytes, bits);
        for (let i = 0; i < bytes; i++) bytewise.write(base + offset + i, 1, (bits >>> (8 * i)) & 0xff);
      }
      const images = (machine: ReturnType<typeof bus>) => machine.store.windows.map(({ image }) => [...image]);
      expect(images(whole)).toEqual(images(bytewise));
    }),
    { numRuns: 40 },
  );
});

test('the port pair writes where the latch points, and nowhere while it is not enabled', () => {
  const { memory, ports, writes, addresses } = bus();
  const data = ports.handlerAt(0xcfc)!;
  data.handler.write(0, 4, 1);
  Atomics.store(memory.words, LATCH_WORD, 0x8000_0000 | (addresses[1]! << 11) | 0x40 | 0);
  data.handler.write(2, 2, 0xbeef);
  expect(writes).toEqual(['1: 2@42=beef']);
});
