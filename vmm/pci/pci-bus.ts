/** The ways into the guest's PCI config space, and which function answers at which address. */
import { ones } from '../base/bits.ts';
import type { Range } from '../base/ranges.ts';
import type { BusMemory } from '../bus/bus-memory.ts';
import { LATCH_WORD } from '../bus/bus-memory.ts';
import type { TrapHandler, TrapMap } from '../bus/trap.ts';
import { CONFIG_SPACE_SIZE, type ConfigWindow } from './config-window.ts';
import type { GuestBdf } from './function.ts';

const CONFIG_ADDRESS_PORT = 0xcf8;
const CONFIG_DATA_PORT = 0xcfc;
const ENABLE_BIT = 0x8000_0000;

/** `00:01.0` */
export function formatGuestBdf({ bus, device, function: fn }: GuestBdf): string {
  return `${bus.toString(16).padStart(2, '0')}:${device.toString(16).padStart(2, '0')}.${fn}`;
}

/** Requester number of an address: bus, device and function in 16 bits. */
export function keyOf({ bus, device, function: fn }: GuestBdf): number {
  return (bus << 8) | (device << 3) | fn;
}

/** Whoever has config space: vCPU threads read its window, writes come here, at most a dword at a time. */
export interface ConfigTarget {
  readonly window: ConfigWindow;
  writeConfig(offset: number, width: number, value: number): void;
}

export class PciBus {
  readonly #bus: BusMemory;
  #targets: ReadonlyMap<number, ConfigTarget> = new Map();

  constructor(bus: BusMemory) {
    this.#bus = bus;
    bus.windowOf.fill(0);
    bus.words[LATCH_WORD] = 0;
  }

  /** Claims ECAM and the port pair. */
  attach(memoryTraps: TrapMap, portTraps: TrapMap, ecam: Range): void {
    memoryTraps.add(ecam.start, ecam.size, {
      kind: 'config',
      name: 'ecam',
      via: 'ecam',
      handler: this.#handler((offset) => offset),
    });
    // One byte only: 0xcf9 is the reset port, and the latch takes nothing but 4-byte writes to 0xcf8.
    portTraps.add(CONFIG_ADDRESS_PORT, 1, {
      kind: 'config',
      name: 'config address',
      via: 'address-port',
      handler: { read: () => 0xff, write: () => {} },
    });
    portTraps.add(CONFIG_DATA_PORT, 4, {
      kind: 'config',
      name: 'config data',
      via: 'data-port',
      handler: this.#handler((offset) => {
        const latch = Atomics.load(this.#bus.words, LATCH_WORD) >>> 0;
        if (latch < ENABLE_BIT) return undefined;
        return ((latch >>> 8) & 0xffff) * CONFIG_SPACE_SIZE + (latch & 0xfc) + offset;
      }),
    });
  }

  /** Makes exactly these answer, by {@link keyOf} their addresses. What goes, goes first. */
  apply(targets: ReadonlyMap<number, ConfigTarget>): void {
    const { windowOf } = this.#bus;
    for (const key of this.#targets.keys()) if (!targets.has(key)) windowOf[key] = 0;
    for (const [key, { window }] of targets) windowOf[key] = window.index + 1;
    this.#targets = targets;
  }

  /**
   * Writes go to the functions; reads never come here, vCPU threads answer them. What crosses a dword is taken apart into
   * naturally aligned pieces, lowest first, as the kernel does it: no config cycle carries more (PCI 3.0 §3.2.2.3).
   */
  #handler(addressOf: (offset: number) => number | undefined): TrapHandler {
    return {
      read: () => 0xffff_ffff,
      write: (offset, width, value) => {
        const address = addressOf(offset);
        if (address === undefined) return;
        if ((address & 3) + width <= 4) {
          this.#write(address, width, value);
          return;
        }
        for (let done = 0; done < width; ) {
          const at = address + done;
          const piece = at % 2 === 0 && width - done >= 2 ? 2 : 1;
          this.#write(at, piece, (value >>> (8 * done)) & ones(piece));
          done += piece;
        }
      },
    };
  }

  /** @param address offset into all of config space */
  #write(address: number, width: number, value: number): void {
    const target = this.#targets.get(Math.floor(address / CONFIG_SPACE_SIZE));
    target?.writeConfig(address % CONFIG_SPACE_SIZE, width, value);
  }
}
