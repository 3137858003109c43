import { beforeEach, describe, expect, it } from 'vitest';
import { KVM_EXIT, KVM_RUN } from '../../native/kvm-abi.ts';
import type { Fd } from '../../native/types.ts';
import { BusMemory } from '../bus/bus-memory.ts';
import { BURST_ACCESSES } from '../bus/trap.ts';
import { SharedBytes, TrapTable } from '../bus/trap-table.ts';
import { ConfigStore } from '../pci/config-window.ts';
import { ExitHandler } from './exit-handler.ts';
import { CALL, COUNTER, Mailbox, NOTICE } from './mailbox.ts';

const DATA_AT = 4096;

/** A run page, tables and a file, without KVM. Calls are not served here: a test that makes one would block for ever. */
function machine() {
  const bus = new BusMemory();
  const shared = new SharedBytes(bus);
  const ports = new TrapTable(bus.ports, bus, shared);
  const mmio = new TrapTable(bus.mmio, bus, shared);
  const config = new ConfigStore(4);
  const mailbox = new Mailbox();
  const page = new ArrayBuffer(8192);
  const run = new DataView(page);
  const accesses: string[] = [];
  const file = new Uint8Array(256).map((_, index) => index);
  const native = {
    pread: (_fd: Fd, offset: number, bytes: Uint8Array, at: number, width: number) => {
      accesses.push(`r${width}@${offset}`);
      if (offset + width > file.length) return -5;
      bytes.set(file.subarray(offset, offset + width), at);
      return 0;
    },
    pwrite: (_fd: Fd, offset: number, bytes: Uint8Array, at: number, width: number) => {
      accesses.push(`w${width}@${offset}=${bytes[at]}`);
      return 0;
    },
  };
  const exits = new ExitHandler(native, page, bus, config, mailbox);

  const port = (direction: 0 | 1, width: number, number: number, values: number[], count = values.length) => {
    run.setUint32(KVM_RUN.exitReason, KVM_EXIT.IO, true);
    run.setUint8(KVM_RUN.io.direction, direction);
    run.setUint8(KVM_RUN.io.size, width);
    run.setUint16(KVM_RUN.io.port, number, true);
    run.setUint32(KVM_RUN.io.count, count, true);
    run.setBigUint64(KVM_RUN.io.dataOffset, BigInt(DATA_AT), true);
    for (const [i, value] of values.entries()) run.setUint32(DATA_AT + i * width, value, true);
    exits.handle();
  };
  return {
    bus,
    ports,
    mmio,
    config,
    mailbox,
    accesses,
    out: (width: number, number: number, ...values: number[]) => port(1, width, number, values),
    in: (width: number, number: number) => {
      run.setUint32(DATA_AT, 0, true);
      port(0, width, number, [], 1);
      return width === 4
        ? run.getUint32(DATA_AT, true)
        : width === 2
          ? run.getUint16(DATA_AT, true)
          : run.getUint8(DATA_AT);
    },
    mmioAccess: (address: number, width: number, write: boolean, value = 0n) => {
      run.setUint32(KVM_RUN.exitReason, KVM_EXIT.MMIO, true);
      run.setBigUint64(KVM_RUN.mmio.physAddr, BigInt(address), true);
      run.setUint32(KVM_RUN.mmio.len, width, true);
      run.setUint8(KVM_RUN.mmio.isWrite, write ? 1 : 0);
      run.setBigUint64(KVM_RUN.mmio.data, value, true);
      exits.handle();
      return run.getBigUint64(KVM_RUN.mmio.data, true);
    },
  };
}

describe('an exit on the vCPU thread', () => {
  let m: ReturnType<typeof machine>;
  const handler = { read: () => 0, write: () => {} };
  beforeEach(() => {
    m = machine();
  });

  // Enforces D39.
  it('reads all ones where nothing is, and drops writes', () => {
    expect(m.in(1, 0x1234)).toBe(0xff);
    expect(m.in(4, 0x1234)).toBe(0xffff_ffff);
    m.out(2, 0x1234, 7);
    expect(m.mmioAccess(0xd000_0000, 8, false)).toBe(0xffff_ffff_ffff_ffffn);
  });

  it('answers shared bytes by itself, in every width, and nothing past the trap', () => {
    const bytes = m.ports.allocateShared(4);
    bytes.set([0x11, 0x22, 0x33, 0x44]);
    m.ports.add(0x600, 4, { kind: 'shared', name: 'pm', bytes, handler });
    expect(m.in(1, 0x602)).toBe(0x33);
    expect(m.in(2, 0x600)).toBe(0x2211);
    expect(m.in(4, 0x600)).toBe(0x4433_2211);
    expect(m.in(4, 0x602)).toBe(0xffff_ffff);
  });

  it('keeps what is written to a latch by itself, string instructions too, and tells nobody', () => {
    const bytes = m.ports.allocateShared(4);
    m.ports.add(0x80, 4, { kind: 'latch', name: 'scratch', bytes });
    m.out(1, 0x80, 0x11, 0x22);
    m.out(2, 0x82, 0x4433);
    // Half of it is not the latch's.
    m.out(2, 0x83, 0xffff);
    expect([...bytes]).toEqual([0x22, 0, 0x33, 0x44]);
    expect(m.in(4, 0x80)).toBe(0x4433_0022);
    expect(m.ports.handlerAt(0x80)).toBeUndefined();
    expect(m.mailbox.counters[COUNTER.port]).toBe(4);
    expect([m.mailbox.counters[COUNTER.posted], m.mailbox.counters[COUNTER.called]]).toEqual([0, 0]);
  });

  it('stores what is written into masked MSI-X entries by itself, and calls for everything else', () => {
    const told: number[][] = [];
    m.mailbox.call = (_op, _space, address, width, value) => {
      told.push([address, width, value]);
      return 0;
    };
    const bytes = m.mmio.allocateShared(32);
    bytes[12] = 1;
    m.mmio.add(0xc000_0000, 32, { kind: 'msix-table', name: 'table', bytes, handler });
    m.mmioAccess(0xc000_0000, 8, true, 0x0000_0001_fee0_1003n);
    m.mmioAccess(0xc000_0008, 4, true, 0x41n);
    m.mmioAccess(0xc000_0009, 1, true, 0x7fn);
    m.mmioAccess(0xc000_000c, 4, true, 0xffff_fff1n);
    m.mmioAccess(0xc000_000d, 1, true, 0n);
    expect(told).toEqual([]);
    expect([...bytes.subarray(12, 16)]).toEqual([1, 0, 0, 0]);
    expect([...bytes.subarray(0, 12)]).toEqual([0, 0x10, 0xe0, 0xfe, 1, 0, 0, 0, 0x41, 0x7f, 0, 0]);
    expect(m.mmioAccess(0xc000_0000, 4, false) & 0xffff_ffffn).toBe(0xfee0_1000n);
    // Its mask; data and mask at once; the second entry, which is not masked; both entries.
    m.mmioAccess(0xc000_000c, 4, true, 0n);
    m.mmioAccess(0xc000_000a, 4, true, 0n);
    m.mmioAccess(0xc000_0018, 4, true, 5n);
    m.mmioAccess(0xc000_000e, 4, true, 5n);
    expect(told.map(([address]) => address! - 0xc000_0000)).toEqual([0xc, 0xa, 0x18, 0xe]);
    expect([...bytes.subarray(16)]).toEqual(Array(16).fill(0));
  });

  it('queues posted writes in order and counts them, string instructions too', () => {
    m.ports.add(0x3f8, 1, { kind: 'call', name: 'thr', post: true, handler });
    m.out(1, 0x3f8, 0x61, 0x62, 0x63);
    const seen: number[] = [];
    m.bus.posts.drain((port, width, value) => seen.push(port, width, value));
    expect(seen).toEqual([0x3f8, 1, 0x61, 0x3f8, 1, 0x62, 0x3f8, 1, 0x63]);
    expect(m.mailbox.counters[COUNTER.console]).toBe(1);
    expect(m.mailbox.counters[COUNTER.port]).toBe(0);
    expect(m.mailbox.counters[COUNTER.posted]).toBe(3);
    m.ports.add(0x2f8, 1, { kind: 'call', name: 'thr', post: true, handler });
    m.out(1, 0x2f8, 0x64);
    // Nothing is there.
    m.out(1, 0x2f9, 0x64);
    expect([m.mailbox.counters[COUNTER.console], m.mailbox.counters[COUNTER.port]]).toEqual([2, 1]);
  });

  // Enforces D47, P55.
  it('forwards a device access with exactly the width of the guest, 8 bytes included', () => {
    m.mmio.add(0xc000_0000, 0x100, { kind: 'file', name: 'bar', fd: 7 as Fd, offset: 16 });
    expect(m.mmioAccess(0xc000_0008, 8, false)).toBe(0x1f1e_1d1c_1b1a_1918n);
    m.mmioAccess(0xc000_0001, 1, true, 0x5an);
    expect(m.accesses).toEqual(['r8@24', 'w1@17=90']);
  });

  it('gives all ones and counts when the device fails to answer', () => {
    m.mmio.add(0xc000_0000, 0x1000, { kind: 'file', name: 'bar', fd: 7 as Fd, offset: 0 });
    expect(m.mmioAccess(0xc000_0200, 4, false) & 0xffff_ffffn).toBe(0xffff_ffffn);
    expect(m.mailbox.counters[COUNTER.fileErrors]).toBe(1);
  });

  // Enforces D39, P5.
  it('sees a removed trap as gone at once', () => {
    m.mmio.add(0xc000_0000, 0x100, { kind: 'file', name: 'bar', fd: 7 as Fd, offset: 0 });
    m.mmio.remove(0xc000_0000);
    expect(m.mmioAccess(0xc000_0000, 4, false) & 0xffff_ffffn).toBe(0xffff_ffffn);
    expect(m.accesses).toEqual([]);
  });

  it('counts the accesses to each page of a trap that wants it, over all vCPUs, and keeps the carry', () => {
    m.mmio.add(0xc000_0f00, 0x1200, { kind: 'file', name: 'bar', fd: 7 as Fd, offset: 0, onBurst: () => {} });
    m.mmio.add(0xc000_8000, 0x100, { kind: 'file', name: 'other', fd: 7 as Fd, offset: 0 });
    m.mmioAccess(0xc000_0f00, 4, false);
    m.mmioAccess(0xc000_1000, 4, true);
    m.mmioAccess(0xc000_1ffc, 4, false);
    m.mmioAccess(0xc000_2010, 1, false);
    m.mmioAccess(0xc000_8000, 4, false);
    expect(m.mmio.accessCounts(0xc000_0f00)).toEqual([
      { offset: 0, accesses: 1 },
      { offset: 0x100, accesses: 2 },
      { offset: 0x1100, accesses: 1 },
    ]);
    expect(m.mmio.accessCounts(0xc000_8000)).toEqual([]);
    // The next access would be a call on a burst; this one carries.
    m.bus.counts[0] = -2;
    m.mmioAccess(0xc000_0f00, 4, false);
    expect(m.mmio.accessCounts(0xc000_0f00)[0]!.accesses).toBe(2 ** 32 - 1);
    m.mmio.remove(0xc000_0f00);
    m.mmio.add(0xc000_0f00, 0x100, { kind: 'file', name: 'bar', fd: 7 as Fd, offset: 0, onBurst: () => {} });
    expect(m.mmio.accessCounts(0xc000_0f00), 'a new trap starts at 0').toEqual([]);
  });

  // Enforces P13.
  it('tells the machine thread of each burst on one page, and of nothing in between', () => {
    const told: number[][] = [];
    m.mailbox.call = (op, _space, address, _width, value) => {
      told.push([op, address, value]);
      return 0;
    };
    m.mmio.add(0xc000_0000, 0x2000, { kind: 'file', name: 'bar', fd: 7 as Fd, offset: 0, onBurst: () => {} });
    m.bus.counts[2] = BURST_ACCESSES - 2;
    for (let i = 0; i < 4; i++) m.mmioAccess(0xc000_1008, 4, true);
    m.mmioAccess(0xc000_0008, 4, true);
    expect(told).toEqual([[CALL.notice, NOTICE.burst, 1]]);
    expect(m.accesses.length, 'every access is done all the same').toBe(5);
  });

  describe('of config space', () => {
    beforeEach(() => {
      m.ports.add(0xcf8, 1, { kind: 'config', name: 'address', via: 'address-port', handler });
      m.ports.add(0xcfc, 4, { kind: 'config', name: 'data', via: 'data-port', handler });
      m.mmio.add(0xe000_0000, 0x1000_0000, { kind: 'config', name: 'ecam', via: 'ecam', handler });
      const window = m.config.allocate();
      window.image.set([0x86, 0x80, 0xd3, 0x10, 0, 0, 0xf0, 0]);
      window.deviceBits.set([0x0f, 0], 6);
      window.setDevice(9 as Fd, 32);
      m.bus.windowOf[1 << 3] = window.index + 1;
    });

    it('goes by the port pair, whose latch takes only 4-byte writes', () => {
      m.out(4, 0xcf8, 0x8000_0800);
      m.out(1, 0xcf8, 0x55);
      expect(m.in(4, 0xcf8)).toBe(0x8000_0800);
      expect(m.in(4, 0xcfc)).toBe(0x10d3_8086);
      expect(m.in(2, 0xcfe)).toBe(0x10d3);
      m.out(4, 0xcf8, 0x0000_0800);
      expect(m.in(4, 0xcfc)).toBe(0xffff_ffff);
    });

    it('goes by ECAM, absent functions read as ones', () => {
      expect(m.mmioAccess(0xe000_8000, 4, false) & 0xffff_ffffn).toBe(0x10d3_8086n);
      expect(m.mmioAccess(0xe001_0000, 4, false) & 0xffff_ffffn).toBe(0xffff_ffffn);
      expect(m.mailbox.counters[COUNTER.config]).toBe(2);
    });

    // Enforces C28.
    it('gives the same as byte by byte for every width at every offset, across dwords and functions', () => {
      const second = m.config.allocate();
      second.image.set([0x11, 0x22, 0x33, 0x44]);
      m.bus.windowOf[(1 << 3) + 1] = second.index + 1;
      const starts = [0xe000_8000, 0xe000_8000 + 4096 - 8, 0xe000_9000 + 4096 - 8];
      for (const start of starts) {
        for (let at = start; at < start + 8; at++) {
          for (const width of [1, 2, 4, 8]) {
            const bytes = Array.from({ length: width }, (_, i) => m.mmioAccess(at + i, 1, false) & 0xffn);
            const composed = bytes.reduceRight((value, byte) => (value << 8n) | byte, 0n);
            const mask = (1n << BigInt(8 * width)) - 1n;
            expect(m.mmioAccess(at, width, false) & mask, `${width} bytes at ${at.toString(16)}`).toBe(composed);
          }
        }
      }
    });

    it('asks the device for exactly the bits that are its own', () => {
      // Byte 6: high nibble from the image (0xf0), low nibble from the file (32 + 6 = 0x26).
      expect(m.mmioAccess(0xe000_8006, 2, false) & 0xffffn).toBe(0xf6n);
      expect(m.accesses).toEqual(['r2@38']);
    });

    // Enforces P44.
    it('starts reads of vital product data itself, and leaves every other write to the machine thread', () => {
      const told: number[][] = [];
      m.mailbox.call = (op, _space, address, width, value) => {
        told.push([op, address, width, value]);
        return 0;
      };
      const write = (at: number, width: number, value: number): void =>
        void m.mmioAccess(0xe000_8000 + at, width, true, BigInt(value));
      m.config.windows[0]!.vpdAddress = 0x52;
      write(0x52, 2, 0x0110);
      write(0x50, 4, 0x0120_ffff);
      m.out(4, 0xcf8, 0x8000_0850);
      m.out(2, 0xcfe, 0x0130);
      expect(m.accesses).toEqual([`w2@${32 + 0x52}=16`, `w2@${32 + 0x52}=32`, `w2@${32 + 0x52}=48`]);
      expect(told).toEqual([]);
      // With the flag of a write, in part, beside, of another function, and where there is no such register.
      write(0x52, 2, 0x8110);
      write(0x53, 1, 0x01);
      write(0x54, 4, 0);
      write(0x1052, 2, 0x0110);
      m.config.windows[0]!.vpdAddress = 0;
      write(0x52, 2, 0x0110);
      expect(told.map(([op, address]) => [op, address! - 0xe000_8000])).toEqual([
        [CALL.write, 0x52],
        [CALL.write, 0x53],
        [CALL.write, 0x54],
        [CALL.write, 0x1052],
        [CALL.write, 0x52],
      ]);
      expect(m.accesses).toHaveLength(3);
    });
  });
});
