/** What must hold after every step of a fuzzed guest, worked out from its registers and the hardware alone. */
import type { FakeDevice } from '../../native/fake/fake-device.ts';
import { VFIO_PCI_IRQ } from '../../native/vfio-abi.ts';
import { readLe } from '../../vmm/base/bits.ts';
import type { ConfigGrant } from '../config-space/grants.ts';
import type { AssignedFunction } from '../index.ts';
import { CAPABILITY, openBits } from './hardware.ts';
import type { DirectPiece, World } from './world.ts';

const PAGE = 4096;
const COMMAND_MEMORY = 2;
const COMMAND_PORTS = 1;
const MODE_OF_INDEX = new Map<number | undefined, string>([
  [undefined, 'none'],
  [VFIO_PCI_IRQ.INTX, 'intx'],
  [VFIO_PCI_IRQ.MSI, 'msi'],
  [VFIO_PCI_IRQ.MSIX, 'msix'],
]);

/** The hardware's config space as it must stay, and the bits that may change. */
interface ProtectedConfig {
  readonly device: FakeDevice;
  readonly baseline: Uint8Array;
  readonly table: Uint8Array;
  open: Uint8Array;
}

export class Invariants {
  readonly #world: World;
  readonly #checkModes: boolean;
  readonly #configs = new Map<AssignedFunction, ProtectedConfig>();

  /** @param checkModes whether the VMM and VFIO must agree on the interrupts that are on */
  constructor(world: World, checkModes: boolean) {
    this.#world = world;
    this.#checkModes = checkModes;
    for (const [i, fn] of world.functions.entries()) {
      const device = world.devices[i]!;
      const baseline = device.config.hardware.slice();
      const table = openBits(baseline, device.spec.isVf ?? false);
      this.#configs.set(fn, { device, baseline, table, open: table });
    }
  }

  /** From now on these bits may change too, and what former grants let change is what must stay. */
  granted(fn: AssignedFunction, grants: readonly ConfigGrant[]): void {
    this.#checkHardware(fn);
    const config = this.#configs.get(fn)!;
    config.baseline.set(config.device.config.hardware);
    config.open = config.table.slice();
    for (const { offset, writeBits } of grants) {
      for (let i = 0; i < 4; i++) config.open[offset + i]! |= (writeBits >>> (8 * i)) & 0xff;
    }
  }

  /** Cheap enough for after every step. */
  checkMapping(): void {
    const [violation] = this.#world.violations;
    if (violation !== undefined) throw new Error(violation);
    const pieces = this.#world.directPieces();
    for (const [i, piece] of pieces.entries()) {
      this.#checkPiece(piece);
      for (const other of pieces.slice(i + 1)) {
        if (piece.gpa < other.gpa + other.sizeBytes && other.gpa < piece.gpa + piece.sizeBytes) {
          throw new Error(`slots at ${hex(piece.gpa)} and ${hex(other.gpa)} overlap`);
        }
      }
    }
    const { memoryTraps, portTraps } = this.#world.machine.vm;
    for (const { start, size, trap } of memoryTraps.list.values()) {
      this.#checkTrap(trap.name, start, size, COMMAND_MEMORY);
      const slot = pieces.find((piece) => start < piece.gpa + piece.sizeBytes && piece.gpa < start + size);
      if (slot) throw new Error(`the trap at ${hex(start)} lies under the slot at ${hex(slot.gpa)}`);
    }
    for (const { start, size, trap } of portTraps.list.values()) this.#checkTrap(trap.name, start, size, COMMAND_PORTS);
  }

  /** Everything else: hardware bits, the real tables, interrupts. */
  checkDevices(): void {
    const { vm } = this.#world.machine.vm;
    for (const { gsi } of vm.irqfds) {
      if (!vm.routes.some((route) => route.gsi === gsi)) throw new Error(`irqfd on GSI ${gsi} without a route`);
    }
    for (const fn of this.#world.functions) {
      this.#checkHardware(fn);
      const { device } = this.#configs.get(fn)!;
      const { mode } = fn.report().interrupts;
      const active = MODE_OF_INDEX.get(device.irqs.active);
      if (this.#checkModes && mode !== active) throw new Error(`${fn.label}: ${mode} in the VMM, ${active} in VFIO`);
      for (const { region, offset, width } of device.accesses) {
        const table = tableOf(device);
        if (region === table.bar && offset < table.end && offset + width > table.start) {
          throw new Error(`${fn.label}: an access to the real MSI-X table at ${hex(offset)}`);
        }
      }
      device.accesses.length = 0;
      device.configAccesses.length = 0;
      device.resets.length = 0;
    }
  }

  /** No slot outside the BAR that the guest decodes there, none over the MSI-X pages, none that the kernel revoked. */
  #checkPiece(piece: DirectPiece): void {
    const { device, bar, offset, gpa, sizeBytes } = piece;
    const fn = this.#world.functions[this.#world.devices.indexOf(device)]!;
    const request = fn.bars.find(({ index }) => index === bar);
    if (!request || offset + sizeBytes > request.sizeBytes) throw new Error(`a slot beyond BAR${bar} of ${fn.label}`);
    const address = this.#world.barAddress(fn, bar);
    if (gpa !== address + offset)
      throw new Error(`${fn.label} BAR${bar}+${hex(offset)} at ${hex(gpa)}, not ${hex(address)}`);
    if (!isDecoded(fn, COMMAND_MEMORY)) throw new Error(`${fn.label}: a slot while the guest decodes nothing`);
    if (!device.config.decodesMemory) throw new Error(`${fn.label}: a slot while the hardware decodes nothing`);
    const table = tableOf(device);
    const closed = [
      [table.start, table.end],
      [table.pending, table.pending + 8],
    ] as const;
    for (const [start, end] of bar === table.bar ? closed : []) {
      const page = Math.floor(start / PAGE) * PAGE;
      const past = Math.ceil(end / PAGE) * PAGE;
      if (offset < past && page < offset + sizeBytes) throw new Error(`${fn.label}: a slot over the MSI-X pages`);
    }
  }

  #checkTrap(name: string, start: number, size: number, command: number): void {
    const fn = this.#world.functions.find(({ label }) => name.startsWith(label));
    if (!fn) throw new Error(`the trap ${name} is nobody's`);
    if (!isDecoded(fn, command)) throw new Error(`${name}: a trap while the guest decodes nothing`);
    const bar = Number(/BAR(\d)/.exec(name)?.[1]);
    const request = fn.bars.find(({ index }) => index === bar)!;
    const address = this.#world.barAddress(fn, bar);
    if (start < address || start + size > address + request.sizeBytes) {
      throw new Error(`${name}: a trap at ${hex(start)}, the BAR is at ${hex(address)}`);
    }
  }

  #checkHardware(fn: AssignedFunction): void {
    const { device, baseline, open } = this.#configs.get(fn)!;
    const { hardware } = device.config;
    for (let at = 0; at < hardware.length; at++) {
      const changed = (hardware[at]! ^ baseline[at]!) & ~open[at]!;
      if (changed !== 0) throw new Error(`${fn.label}: hardware bits ${hex(changed)} of byte ${hex(at)} changed`);
    }
  }
}

/** The guest's own registers: decode on, power on. */
function isDecoded(fn: AssignedFunction, command: number): boolean {
  const { image } = fn.window;
  return (readLe(image, 4, 2) & command) !== 0 && (image[CAPABILITY.pm + 4]! & 3) === 0;
}

interface TablePlace {
  readonly bar: number;
  readonly start: number;
  readonly end: number;
  readonly pending: number;
}

/** From the specification of the device, not from what the VMM made of it. */
function tableOf({ spec }: FakeDevice): TablePlace {
  const { tableBar, tableOffset, vectors, pbaOffset } = spec.msix!;
  return { bar: tableBar, start: tableOffset, end: tableOffset + 16 * vectors, pending: pbaOffset };
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
