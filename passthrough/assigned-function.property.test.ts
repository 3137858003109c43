/** A guest that does anything at all: after each step the machine is what the guest's registers say, and no more. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Gpa, Hva } from '../native/types.ts';
import { endOf, overlaps, type Range } from '../vmm/base/ranges.ts';
import { everything } from './fixtures/devices.ts';
import { MEMORY_WINDOWS, PORT_WINDOW, RAM_BYTES, TestMachine } from './fixtures/test-machine.ts';

/** More runs for a search by hand: CAUSEWAY_PROPERTY_RUNS=5000. */
const RUNS = Number(process.env.CAUSEWAY_PROPERTY_RUNS ?? 60);

const PM = 0x40;
const MSI = 0x50;
const MSIX = 0x70;
const EXPRESS = 0x80;
const VECTORS = 20;
const TABLE_OFFSET = 0x2000;
/** Another device's memory in the middle of the window. */
const FOREIGN: Range = { start: 0xc040_0000, size: 0x10_0000 };

/** Hardware bits that a guest's write may change at all: COMMAND, power state, device control 1 and 2. */
const OPEN_BITS: ReadonlyMap<number, number> = new Map([
  [0x04, 0x17],
  [PM + 4, 0x03],
  [EXPRESS + 8, 0x10],
  [EXPRESS + 9, 0x79],
  [EXPRESS + 40, 0x1f],
]);

type Step =
  | { readonly do: 'config'; readonly offset: number; readonly width: 1 | 2 | 4; readonly value: number }
  | { readonly do: 'table'; readonly at: number; readonly width: 1 | 2 | 4; readonly value: number }
  | { readonly do: 'arm'; readonly vector: number; readonly data: number }
  | { readonly do: 'mask'; readonly vector: number }
  | { readonly do: 'fire'; readonly vector: number }
  | { readonly do: 'reboot' };

/** Few, so that one is armed, masked and fired in one run. */
const vector = fc.constantFrom(0, 1, 7, VECTORS - 1);
const width = fc.constantFrom<1 | 2 | 4>(1, 2, 4);
const word = fc.oneof(
  fc.constantFrom(0, 0xffff_ffff, 0xffff_fff0, 0xfee0_0000, 0xfee0_1004, 0x8000_8000, 0x0400, 3, 7),
  fc.integer({ min: 0, max: 0xffff_ffff }),
);
/** Addresses that meet each other, the foreign device, the windows' edges and RAM. */
const address = fc.oneof(
  fc.integer({ min: 0, max: 127 }).map((n) => 0xc000_0000 + n * 0x1_0000),
  fc.constantFrom(0, 0x10_0000, 0xdfff_f000, 0xbfff_0000, 0xfee0_0000, 0x2000, 0x1000, 0xffff_ffff),
);
const config = (offset: fc.Arbitrary<number>, value: fc.Arbitrary<number>): fc.Arbitrary<Step> =>
  fc.record({ offset, width, value }).map(({ offset: at, width: bytes, value: bits }) => {
    return { do: 'config', offset: Math.floor(at / bytes) * bytes, width: bytes, value: bits } as const;
  });
const dword = (offset: fc.Arbitrary<number>, value: fc.Arbitrary<number>): fc.Arbitrary<Step> =>
  fc.record({ offset, value }).map((write) => ({ do: 'config', width: 4, ...write }) as const);

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: dword(
      fc.integer({ min: 0, max: 5 }).map((bar) => 0x10 + 4 * bar),
      address,
    ),
  },
  { weight: 3, arbitrary: dword(fc.constant(0x1c), fc.constantFrom(0, 0x10, 0x11, 0x20, 0xffff_ffff)) },
  { weight: 2, arbitrary: config(fc.integer({ min: 0x10, max: 0x27 }), word) },
  { weight: 6, arbitrary: dword(fc.constant(0x04), fc.constantFrom(0, 2, 3, 6, 7, 7, 7, 0x407)) },
  { weight: 3, arbitrary: config(fc.constantFrom(0x04, 0x05, PM + 4, PM + 5, EXPRESS + 8, EXPRESS + 9), word) },
  { weight: 2, arbitrary: dword(fc.constant(PM + 4), fc.constantFrom(0, 0, 3, 1)) },
  { weight: 4, arbitrary: dword(fc.constant(MSIX), fc.constantFrom(0x8000_0000, 0x8000_0000, 0xc000_0000, 0)) },
  { weight: 2, arbitrary: config(fc.integer({ min: MSI, max: MSI + 0x17 }), word) },
  { weight: 2, arbitrary: config(fc.integer({ min: 0, max: 4095 }), word) },
  {
    weight: 10,
    arbitrary: fc
      .record({ at: fc.integer({ min: -16, max: 4 * VECTORS * 4 + 16 }), width, value: word })
      .map(({ at, width: bytes, value }) => ({ do: 'table', at: at * bytes, width: bytes, value }) as const),
  },
  {
    weight: 6,
    arbitrary: fc
      .record({ vector, data: fc.integer({ min: 0, max: 255 }) })
      .map((entry) => ({ do: 'arm', ...entry }) as const),
  },
  { weight: 3, arbitrary: vector.map((number) => ({ do: 'mask', vector: number }) as const) },
  { weight: 2, arbitrary: vector.map((number) => ({ do: 'fire', vector: number }) as const) },
  { weight: 1, arbitrary: fc.constant({ do: 'reboot' } as const) },
);

/** What a driver does at its start, so that the steps after it meet a device in full use. */
const RUNNING: readonly Step[] = [
  { do: 'config', offset: 0x04, width: 2, value: 7 },
  { do: 'config', offset: MSIX + 2, width: 2, value: 0x8000 },
  { do: 'arm', vector: 0, data: 0x31 },
  { do: 'arm', vector: 7, data: 0x32 },
];

class Guest {
  readonly machine = new TestMachine([everything()]);
  readonly #hardwareAtStart: Uint8Array;
  readonly #foreignHva: Hva;
  readonly #wrongOrder: string[] = [];

  constructor() {
    this.#foreignHva = this.machine.kernel.mapAnonymous(FOREIGN.size);
    this.#plugForeign();
    this.machine.boot();
    this.#hardwareAtStart = this.machine.device.config.hardware.slice();
    this.#watchRevocation();
  }

  #plugForeign(): void {
    this.machine.vm.services.slots.add(FOREIGN.start as Gpa, FOREIGN.size, this.#foreignHva);
  }

  /**
   * The kernel revokes mappings when decode ends: no slot may be left at that moment, nor come before decode is on.
   * Noted, not thrown: what a config write throws is a warning to the user.
   */
  #watchRevocation(): void {
    const { kernel, device } = this.machine;
    const pwrite = kernel.pwrite.bind(kernel);
    kernel.pwrite = (...args) => {
      const status = pwrite(...args);
      if (!device.config.decodesMemory && this.slots.length > 0) {
        this.#wrongOrder.push('slots while the hardware decodes nothing');
      }
      return status;
    };
    const setSlot = kernel.vmSetMemorySlot.bind(kernel);
    kernel.vmSetMemorySlot = (...args) => {
      if (args[3] !== 0 && args[2] >= RAM_BYTES && args[2] !== FOREIGN.start) {
        if (!device.config.decodesMemory) this.#wrongOrder.push('mapped before the hardware decodes');
      }
      setSlot(...args);
    };
  }

  get slots(): { gpa: number; sizeBytes: number; hva: number }[] {
    return this.machine.vm.barSlots.filter(({ gpa }) => gpa !== FOREIGN.start);
  }

  run(action: Step): void {
    const { machine } = this;
    if (action.do === 'config') machine.fn.writeConfig(action.offset, action.width, action.value);
    if (action.do === 'table') machine.vm.write(this.address(0) + TABLE_OFFSET + action.at, action.width, action.value);
    if (action.do === 'arm') machine.armMsix(action.vector, action.data, this.address(0) + TABLE_OFFSET);
    if (action.do === 'mask') machine.vm.write(this.address(0) + TABLE_OFFSET + 16 * action.vector + 12, 4, 1);
    if (action.do === 'fire') machine.device.fireMsix(action.vector);
    if (action.do === 'reboot') {
      machine.fn.powerOff();
      expect(this.slots).toEqual([]);
      machine.newVm();
      this.#plugForeign();
      machine.fn.powerOn(machine.vm.services);
    }
    machine.kernel.journalBook.clear();
  }

  address(bar: number): number {
    return this.machine.barAddress(bar);
  }

  /** What the registers say, worked out here from the guest's view alone. */
  expectedBars(): { bar: number; space: 'memory' | 'port'; range: Range }[] {
    const { machine } = this;
    const command = machine.readConfig(4, 2);
    const decoded: { bar: number; space: 'memory' | 'port'; range: Range }[] = [];
    if ((machine.readConfig(PM + 4, 1) & 3) !== 0) return [];
    for (const { index, kind, sizeBytes } of machine.fn.bars) {
      if ((command & (kind === 'port' ? 1 : 2)) === 0) continue;
      const range = { start: this.address(index), size: sizeBytes };
      const windows = kind === 'port' ? [PORT_WINDOW] : MEMORY_WINDOWS;
      const inside = windows.some((w) => range.start >= w.start && range.start + range.size <= endOf(w));
      if (!inside || this.#maybeSizing(index, sizeBytes)) continue;
      const clash = decoded.some((other) => other.space === kind && overlaps(other.range, range));
      if (!clash) decoded.push({ bar: index, space: kind, range });
    }
    return decoded;
  }

  /** All ones in the lower half of a 64-bit BAR: an address, or being sized; the register alone does not tell. */
  #maybeSizing(bar: number, sizeBytes: number): boolean {
    const low = this.machine.readConfig(0x10 + 4 * bar, 4);
    const allOnes = (low & 7) === 4 && (low | (sizeBytes - 1)) >>> 0 === 0xffff_ffff;
    return allOnes && !this.slots.some(({ gpa }) => gpa === this.address(bar));
  }

  /** Slots and traps are exactly those of the decoded BARs that are in nobody's way. */
  checkMapping(): void {
    const { machine } = this;
    const free = this.expectedBars().filter(({ space, range }) => space === 'port' || !overlaps(range, FOREIGN));
    // Table at 0x2000 to 0x2140, pending bits at 0x3800: two pages of BAR0 are never direct.
    const direct: Record<number, readonly [number, number][]> = {
      0: [
        [0, 0x2000],
        [0x4000, 0xc000],
      ],
      2: [[0, 0x40_0000]],
      4: [[0, 0x1000]],
    };
    const wanted = free.flatMap(({ bar, range }) => (direct[bar] ?? []).map(([at, size]) => [range.start + at, size]));
    const byAddress = (a: number[], b: number[]): number => a[0]! - b[0]!;
    const present = this.slots.map(({ gpa, sizeBytes }) => [gpa, sizeBytes]);
    expect(present.sort(byAddress)).toEqual(wanted.sort(byAddress));
    const trapped = free.flatMap(({ bar, range }) =>
      bar === 0 ? [0x2000, 0x2140, 0x3000, 0x3800, 0x3808].map((at) => range.start + at) : [],
    );
    expect([...machine.vm.memoryTraps.list.keys()].sort((a, b) => a - b)).toEqual(trapped.sort((a, b) => a - b));
    const ports = free.filter(({ space }) => space === 'port').map(({ range }) => range.start);
    expect([...machine.vm.portTraps.list.keys()]).toEqual(ports);
  }

  /** Irqfds are exactly the vectors that are enabled and unmasked, each with its message. */
  checkInterrupts(table: Uint8Array | undefined): void {
    const { machine } = this;
    const { vm } = machine.vm;
    // In D3hot the device sends none, and changes wait for D0.
    if ((machine.readConfig(machine.capability(1) + 4, 2) & 3) !== 0) return;
    const control = machine.readConfig(MSIX + 2, 2);
    const routed = vm.irqfds
      .map(({ gsi }) => vm.routes.find((route) => route.gsi === gsi && route.kind === 'msi'))
      .flatMap((route) => (route?.kind === 'msi' ? [`${route.addressLo} ${route.addressHi} ${route.data}`] : []));
    if ((control & 0x8000) === 0) {
      const msiOn = (machine.readConfig(MSI + 2, 2) & 1) !== 0;
      if (!msiOn) expect(vm.irqfds.map(({ gsi }) => gsi as number)).toEqual([16]);
      return;
    }
    expect(routed.length, 'every irqfd has a route').toBe(vm.irqfds.length);
    if (!table) return;
    const view = new DataView(table.buffer, table.byteOffset, table.length);
    const wanted = Array.from({ length: VECTORS }, (_, vector) => vector * 16)
      .filter((at) => (control & 0x4000) === 0 && (view.getUint32(at + 12, true) & 1) === 0)
      .map((at) => [view.getUint32(at, true), view.getUint32(at + 4, true), view.getUint32(at + 8, true)] as const)
      .filter(([low, high]) => low >>> 20 === 0xfee && high === 0)
      .map((message) => message.join(' '));
    expect(routed.sort()).toEqual(wanted.sort());
  }

  /** The shared bytes of the table, while it is mapped. */
  tableBytes(): Uint8Array | undefined {
    const trap = this.machine.vm.memoryTraps.at(this.address(0) + TABLE_OFFSET)?.trap;
    return trap?.kind === 'msix-table' ? trap.bytes : undefined;
  }

  checkHardware(): void {
    const { hardware } = this.machine.device.config;
    for (const [at, byte] of hardware.entries()) {
      const closed = ~(OPEN_BITS.get(at) ?? 0) & 0xff & ~(at === 5 ? 0x04 : 0);
      const changed = (byte ^ this.#hardwareAtStart[at]!) & closed;
      if (changed !== 0) throw new Error(`hardware byte ${at.toString(16)} changed: ${changed.toString(2)}`);
    }
    const tableWrites = this.machine.device.accesses.filter(
      ({ region, offset, write }) => write && region === 0 && offset >= TABLE_OFFSET && offset < TABLE_OFFSET + 320,
    );
    expect(tableWrites, 'writes to the real table').toEqual([]);
    expect(this.#wrongOrder).toEqual([]);
  }
}

// Enforces D42, D46, I87, P3, P12.
test('whatever a guest writes, slots, traps and interrupts are what its registers say, and the hardware is safe', () => {
  fc.assert(
    fc.property(fc.constantFrom([], RUNNING), fc.array(step, { minLength: 1, maxLength: 40 }), (start, steps) => {
      const guest = new Guest();
      for (const action of [...start, ...steps]) {
        guest.run(action);
        guest.checkMapping();
        guest.checkInterrupts(guest.tableBytes());
      }
      guest.checkHardware();
      guest.machine.session.close();
      const left = guest.machine.kernel
        .openFds()
        .filter(({ label }) => /vfio-(container|group|device)|eventfd/.test(label));
      expect(left).toEqual([]);
    }),
    { numRuns: RUNS },
  );
}, 280_000);
