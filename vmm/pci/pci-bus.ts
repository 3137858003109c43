/** The guest's root bus: which function answers at which address, and the ways into config space. */

import { ones } from '../base/bits.ts';
import { CausewayError } from '../base/errors.ts';
import type { Range } from '../base/ranges.ts';
import type { BusMemory } from '../bus/bus-memory.ts';
import { LATCH_WORD } from '../bus/bus-memory.ts';
import type { TrapHandler, TrapMap } from '../bus/trap.ts';
import { CONFIG_SPACE_SIZE } from './config-window.ts';
import type { GuestBdf, PciFunction } from './function.ts';

const CONFIG_ADDRESS_PORT = 0xcf8;
const CONFIG_DATA_PORT = 0xcfc;
const ENABLE_BIT = 0x8000_0000;
const DEVICES_PER_BUS = 32;

/** `00:01.0` */
export function formatGuestBdf({ bus, device, function: fn }: GuestBdf): string {
  return `${bus.toString(16).padStart(2, '0')}:${device.toString(16).padStart(2, '0')}.${fn}`;
}

export class PciBus {
  readonly #functions = new Map<number, PciFunction>();
  readonly #bus: BusMemory;

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

  /** Puts a function on the next free device number, as function 0. @throws CausewayError TOO_MANY_DEVICES */
  plug(fn: PciFunction): GuestBdf {
    for (let device = 0; device < DEVICES_PER_BUS; device++) {
      const key = device << 3;
      if (this.#functions.has(key)) continue;
      this.#functions.set(key, fn);
      this.#bus.windowOf[key] = fn.window.index + 1;
      return { bus: 0, device, function: 0 };
    }
    throw new CausewayError('TOO_MANY_DEVICES', `the guest's bus has room for ${DEVICES_PER_BUS - 1} devices`);
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
    const fn = this.#functions.get(Math.floor(address / CONFIG_SPACE_SIZE));
    fn?.writeConfig(address % CONFIG_SPACE_SIZE, width, value);
  }
}
