/** Whatever is granted and whatever a guest then writes: only granted bits change in the hardware, only granted bits are seen. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { e1000e } from '../fixtures/devices.ts';
import { TestMachine } from '../fixtures/test-machine.ts';
import type { ConfigGrant } from './grants.ts';

/** In no capability of the e1000e. */
const GAP = { start: 0x40, dwords: 16 };

const offset = fc.integer({ min: 0, max: GAP.dwords - 1 }).map((i) => GAP.start + 4 * i);
const bits = fc.integer({ min: 0, max: 0xffff_ffff });
const grant = fc
  .tuple(offset, bits, bits)
  .map(([at, readBits, writeBits]): ConfigGrant => ({ offset: at, readBits, writeBits, writeOnly: true }));
const write = fc
  .tuple(offset, fc.constantFrom([1, 0], [1, 1], [1, 2], [1, 3], [2, 0], [2, 2], [4, 0]), bits)
  .map(([at, [width, lane], value]) => ({ at: at + lane!, width: width!, value }));

// Enforces C30.
test('grants are exact, and gone when they are withdrawn', () => {
  const machine = new TestMachine([e1000e()]);
  machine.boot();
  const { hardware } = machine.device.config;
  const view = new DataView(hardware.buffer, hardware.byteOffset);
  fc.assert(
    fc.property(fc.array(grant, { maxLength: 6 }), fc.array(write, { maxLength: 20 }), bits, (grants, writes, fill) => {
      for (let i = 0; i < GAP.dwords; i++) view.setUint32(GAP.start + 4 * i, fill ^ (i * 0x0101_0101), true);
      machine.fn.setGrants(grants);
      const union = (at: number, which: 'readBits' | 'writeBits'): number =>
        grants.filter((each) => each.offset === at).reduce((sum, each) => (sum | each[which]) >>> 0, 0);
      const before = hardware.slice();
      for (const { at, width, value } of writes) machine.fn.writeConfig(at, width, value);
      for (let i = 0; i < GAP.dwords; i++) {
        const at = GAP.start + 4 * i;
        const changed = (view.getUint32(at, true) ^ new DataView(before.buffer).getUint32(at, true)) >>> 0;
        expect(changed & ~union(at, 'writeBits')).toBe(0);
        expect(machine.readConfig(at, 4)).toBe((view.getUint32(at, true) & union(at, 'readBits')) >>> 0);
      }
      expect(
        [...hardware.keys()].filter((at) => at >= GAP.start + 4 * GAP.dwords && hardware[at] !== before[at]),
      ).toEqual([]);
      machine.fn.setGrants([]);
      for (let i = 0; i < GAP.dwords; i++) expect(machine.readConfig(GAP.start + 4 * i, 4)).toBe(0);
    }),
    { numRuns: 150 },
  );
});
