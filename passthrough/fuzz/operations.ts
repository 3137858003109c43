/** What a fuzzed vCPU does: operations of one or more steps, so that those of several vCPUs meet half way. */
import type { FakeDevice } from '../../native/fake/fake-device.ts';
import type { Gsi } from '../../native/types.ts';
import { isCausewayError } from '../../vmm/base/errors.ts';
import type { ConfigGrant } from '../config-space/grants.ts';
import { RAM_BYTES } from '../fixtures/test-machine.ts';
import type { AssignedFunction } from '../index.ts';
import { CAPABILITY, GAPS } from './hardware.ts';
import type { Random } from './random.ts';
import type { World } from './world.ts';

/** One access, or one event of the host. */
export interface Step {
  /** For the report of a failure. */
  readonly what: string;
  readonly run: () => void;
}

/** Told of grants, so that what they open counts as open. */
export type GrantListener = (fn: AssignedFunction, grants: readonly ConfigGrant[]) => void;

const WIDTHS = [1, 2, 4] as const;
const WORDS = [0, 0xffff_ffff, 0xffff_fff0, 0xfee0_0000, 0xfee0_1004, 0x8000_8000, 0x0400, 3, 7, 0x100] as const;
const COMMANDS = [0, 2, 3, 6, 7, 7, 7, 7, 0x407, 0x403] as const;
/** Power states of the guest: mostly back to D0, or nothing would ever be mapped. */
const POWER = [0, 0, 0, 3, 1, 2] as const;

const FAULTS = [
  ['vfioSetIrqs', 'ENOSPC'],
  ['vfioSetIrqs', 'EBUSY'],
  ['vmAssignIrqfd', 'ENOMEM'],
  ['vmSetGsiRouting', 'ENOMEM'],
  ['vmSetMemorySlot', 'ENOMEM'],
  ['eventfd', 'EMFILE'],
  ['vfioDeviceReset', 'EAGAIN'],
] as const;

export class Operations {
  readonly #world: World;
  readonly #random: Random;
  readonly #onGrants: GrantListener;

  constructor(world: World, random: Random, onGrants: GrantListener) {
    this.#world = world;
    this.#random = random;
    this.#onGrants = onGrants;
  }

  /** The next operation of a vCPU. */
  next(): Step[] {
    const random = this.#random;
    const index = random.below(this.#world.functions.length);
    const fn = this.#world.functions[index]!;
    const device = this.#world.devices[index]!;
    const roll = random.below(1000);
    if (roll < 40) return this.#startDriver(fn);
    if (roll < 200) return [this.#anyConfig(fn)];
    if (roll < 330) return this.#moveBar(fn);
    if (roll < 380) return this.#sizeBar(fn);
    if (roll < 500) return [this.#config(fn, 0x04, 2, random.pick(COMMANDS))];
    if (roll < 540) return [this.#config(fn, CAPABILITY.pm + 4, random.pick(WIDTHS), random.pick(POWER))];
    if (roll < 600) return [this.#config(fn, CAPABILITY.msix + 2, 2, random.pick([0x8000, 0x8000, 0xc000, 0]))];
    if (roll < 640) return this.#programMsi(fn);
    if (roll < 720) return this.#armVector(fn);
    if (roll < 780) return [this.#tableGarbage(fn)];
    if (roll < 800) return [this.#functionReset(fn)];
    if (roll < 900) return [this.#interrupt(device)];
    if (roll < 980) return [this.#memoryAccess(fn)];
    if (roll < 994) return [this.#grants(fn)];
    if (roll < 998) return [this.#host(device)];
    return [{ what: 'reboot', run: () => this.#world.reboot() }];
  }

  /** The next call of some kind fails, as it does on a host that runs short of something. */
  fault(): Step {
    const [call, errno] = this.#random.pick(FAULTS);
    const { kernel } = this.#world.machine;
    // Taking a slot away and turning interrupts off cannot fail for want of anything.
    const gives = (args: readonly unknown[]): boolean => {
      if (call === 'vmSetMemorySlot') return args[3] !== 0 && Number(args[2]) >= RAM_BYTES;
      return call !== 'vfioSetIrqs' || (args[1] as { readonly data: unknown }).data !== null;
    };
    return { what: `${call} will fail with ${errno}`, run: () => kernel.failNext(call, errno, gives) };
  }

  #config(fn: AssignedFunction, offset: number, width: number, value: number): Step {
    return {
      what: `${fn.label} config ${width}@${offset.toString(16)}=${value.toString(16)}`,
      run: () => fn.writeConfig(offset, width, value),
    };
  }

  #anyConfig(fn: AssignedFunction): Step {
    const random = this.#random;
    const width = random.pick(WIDTHS);
    const offset = random.chance(2) ? random.below(0x100) : random.below(0x1000);
    if (random.chance(3)) {
      return { what: `${fn.label} read ${offset}`, run: () => void this.#world.readConfig(fn, offset, 1) };
    }
    return this.#config(fn, offset, width, this.#word());
  }

  #word(): number {
    return this.#random.chance(2) ? this.#random.pick(WORDS) : this.#random.bits();
  }

  /** Addresses that meet each other, the windows' edges, RAM, and nothing at all. */
  #address(): number {
    const random = this.#random;
    if (random.chance(8)) return random.pick([0, 0x10_0000, 0xdfff_f000, 0xbfff_0000, 0xfee0_0000, 0xffff_ffff]);
    if (random.chance(8)) return random.bits();
    return 0xc000_0000 + random.below(64) * 0x4000;
  }

  #moveBar(fn: AssignedFunction): Step[] {
    const random = this.#random;
    const { index, is64, kind } = random.pick(fn.bars);
    const at = 0x10 + 4 * index;
    const low = kind === 'port' ? 0x1000 + random.below(16) * 0x40 : this.#address();
    if (random.chance(4)) {
      return [0, 1, 2, 3].map((byte) => this.#config(fn, at + byte, 1, (low >>> (8 * byte)) & 0xff));
    }
    const steps = [this.#config(fn, at, 4, low)];
    if (is64) steps.push(this.#config(fn, at + 4, 4, random.pick([0, 0, 0, 0x10, 0x11, 0xffff_ffff])));
    return random.chance(2) ? steps : steps.reverse();
  }

  #sizeBar(fn: AssignedFunction): Step[] {
    const { index } = this.#random.pick(fn.bars);
    const at = 0x10 + 4 * index;
    let kept = 0;
    return [
      {
        what: `${fn.label} BAR${index} kept`,
        run: () => {
          kept = this.#world.readConfig(fn, at, 4);
        },
      },
      this.#config(fn, at, 4, this.#random.pick([0xffff_ffff, 0xffff_fff0])),
      { what: `${fn.label} BAR${index} put back`, run: () => fn.writeConfig(at, 4, kept) },
    ];
  }

  #programMsi(fn: AssignedFunction): Step[] {
    const at = CAPABILITY.msi;
    return [
      this.#config(fn, at + 4, 4, this.#word()),
      this.#config(fn, at + 8, 4, this.#random.pick([0, 0, 0x100, 1])),
      this.#config(fn, at + 12, 2, this.#random.bits()),
      this.#config(fn, at + 2, 2, this.#random.pick([0, 1, 0x11, 0x31, 0x71])),
    ];
  }

  /** What a driver does at its start, so that the steps after it meet a device in full use. */
  #startDriver(fn: AssignedFunction): Step[] {
    return [
      this.#config(fn, CAPABILITY.pm + 4, 2, 0),
      this.#config(fn, 0x04, 2, 7),
      this.#config(fn, CAPABILITY.msix + 2, 2, 0x8000),
      ...[0, 1, 2].flatMap((vector) => this.#arm(fn, vector, 0xfee0_0000, 0)),
    ];
  }

  /** Any function's table, wherever the guest has put it; the first one's is at an offset of its BAR. */
  #table(fn: AssignedFunction): number {
    const table = fn === this.#world.functions[2] ? { bar: 2, offset: 0 } : { bar: 0, offset: 0x2000 };
    const bar = fn === this.#world.functions[1] ? 1 : table.bar;
    return this.#world.barAddress(fn, bar) + table.offset;
  }

  #store(what: string, gpa: () => number, width: 1 | 2 | 4, value: number): Step {
    return { what: `${what} ${width}=${value.toString(16)}`, run: () => this.#world.store(gpa(), width, value) };
  }

  #armVector(fn: AssignedFunction): Step[] {
    const random = this.#random;
    const low = random.chance(8) ? this.#word() : 0xfee0_0000;
    return this.#arm(fn, random.below(20), low, random.chance(8) ? this.#word() : 0);
  }

  /** Address, data, unmasked: four stores, between which others may come. */
  #arm(fn: AssignedFunction, vector: number, low: number, high: number): Step[] {
    const values = [low, high, this.#random.below(256), this.#random.chance(6) ? 1 : 0];
    return values.map((value, word) => {
      const at = 16 * vector + 4 * word;
      return this.#store(`${fn.label} vector ${vector}+${4 * word}`, () => this.#table(fn) + at, 4, value);
    });
  }

  #tableGarbage(fn: AssignedFunction): Step {
    const random = this.#random;
    const width = random.pick(WIDTHS);
    const at = (random.below(0x2000 / width) - 16) * width;
    const value = this.#word();
    if (random.chance(2))
      return this.#store(`${fn.label} near its table ${at}`, () => this.#table(fn) + at, width, value);
    return {
      what: `${fn.label} reads near its table ${at}`,
      run: () => void this.#world.load(this.#table(fn) + at, width),
    };
  }

  #functionReset(fn: AssignedFunction): Step {
    if (this.#random.chance(2)) return this.#config(fn, CAPABILITY.af + 4, 1, 1);
    return this.#config(fn, CAPABILITY.pcie + 8, 2, 0x8000 | this.#random.below(0x8000));
  }

  #interrupt(device: FakeDevice): Step {
    const random = this.#random;
    const gsi = (16 + random.below(3)) as Gsi;
    const vector = random.below(20);
    const kind = random.below(6);
    const { vm } = this.#world.machine.vm;
    const run = [
      () => void device.fireMsix(vector % 3),
      () => void device.fireMsix(vector),
      () => void device.fireMsi(vector % 8),
      () => device.fireIntx(),
      () => device.clearIntx(),
      () => vm.endOfInterrupt(gsi),
    ][kind]!;
    return { what: `${device.bdf} interrupt ${kind} ${vector}`, run };
  }

  #memoryAccess(fn: AssignedFunction): Step {
    const random = this.#random;
    const { index, sizeBytes, kind } = random.pick(fn.bars);
    const width = random.pick(WIDTHS);
    const at = random.below(sizeBytes / width) * width;
    const value = this.#word();
    const isStore = random.chance(2);
    const gpa = (): number => this.#world.barAddress(fn, index) + at;
    if (kind === 'port') {
      const { vm } = this.#world.machine;
      const run = isStore ? () => vm.write(gpa(), width, value, 'port') : () => void vm.read(gpa(), width, 'port');
      return { what: `${fn.label} port ${at}`, run };
    }
    const run = isStore ? () => this.#world.store(gpa(), width, value) : () => void this.#world.load(gpa(), width);
    return { what: `${fn.label} BAR${index}+${at.toString(16)} ${isStore ? 'store' : 'load'} ${width}`, run };
  }

  /** Well-formed ones and others, over gaps and over what is guarded. */
  #grants(fn: AssignedFunction): Step {
    const random = this.#random;
    const grants = Array.from({ length: random.below(4) }, (): ConfigGrant => {
      const readBits = random.bits();
      const offset = random.chance(6) ? random.below(4096) : random.pick(GAPS);
      return { offset, readBits, writeBits: random.chance(4) ? random.bits() : (readBits & random.bits()) >>> 0 };
    });
    const run = (): void => {
      try {
        fn.setGrants(grants);
        this.#onGrants(fn, grants);
      } catch (error) {
        if (!isCausewayError(error) || error.code !== 'CONFIG_INVALID') throw error;
      }
    };
    return { what: `${fn.label} grants ${JSON.stringify(grants)}`, run };
  }

  /** The host's doing: the kernel takes BARs away behind everybody's back, and gives them back; events. */
  #host(device: FakeDevice): Step {
    const kind = this.#random.below(4);
    const run = [
      () => {
        device.lowPower = true;
      },
      () => {
        device.lowPower = false;
      },
      () => void device.fireError(),
      () => void device.fireRequest(),
    ][kind]!;
    return { what: `${device.bdf} host ${kind}`, run };
  }
}
