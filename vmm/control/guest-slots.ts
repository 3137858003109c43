/** Which device stands where in the guest, kept over power cycles. A pure model: nobody is told of its changes. */
import type { AssignedFunction } from '../../passthrough/index.ts';
import { CausewayError } from '../base/errors.ts';
import type { NormalDeviceConfig } from '../config/model.ts';
import { numberFunctions, type PlacedFunction, type SlotPlan } from '../pci/topology.ts';

/** A device number of the guest's root bus: a port with or without a device, or a device. */
export interface GuestSlot {
  readonly port: string | undefined;
  functions: readonly AssignedFunction[];
}

export class GuestSlots {
  #slots: readonly GuestSlot[];

  /**
   * Functions of one host device that have the same place share a slot, in the order of the first of each.
   * @param functions in the order of `devices`
   * @throws CausewayError CONFIG_INVALID when different devices want one port
   */
  constructor(devices: readonly NormalDeviceConfig[], functions: readonly AssignedFunction[], hotplugPorts: number) {
    const slots: GuestSlot[] = [];
    for (const [i, fn] of functions.entries()) {
      const { port } = devices[i]!;
      const slot = slots.find((other) =>
        port === undefined
          ? other.port === undefined && other.functions[0]!.hostSlot === fn.hostSlot
          : other.port === port,
      );
      if (!slot) slots.push({ port, functions: [fn] });
      else {
        const [first] = slot.functions;
        if (first!.hostSlot !== fn.hostSlot) {
          throw new CausewayError('CONFIG_INVALID', `devices[${i}].port: ${port} holds ${first!.bdf}, another device`, {
            issues: [{ path: `devices[${i}].port`, message: `${port} holds ${first!.bdf}, another device` }],
          });
        }
        slot.functions = [...slot.functions, fn];
      }
    }
    for (let number = 1; number <= hotplugPorts; number++) {
      const port = `hotplug${number}`;
      if (!slots.some((slot) => slot.port === port)) slots.push({ port, functions: [] });
    }
    this.#slots = slots;
  }

  /** For the machine. */
  get plan(): readonly SlotPlan[] {
    return this.#slots
      .filter(({ port, functions }) => port !== undefined || functions.length > 0)
      .map(({ port, functions }) => ({ port, functions: placed(functions) }));
  }

  get functions(): readonly AssignedFunction[] {
    return this.#slots.flatMap(({ functions }) => functions);
  }

  /** The slot of a device. */
  find(bdf: string): GuestSlot | undefined {
    return this.#slots.find(({ functions }) => functions.some((fn) => fn.bdf === bdf));
  }

  at(port: string): GuestSlot | undefined {
    return this.#slots.find((slot) => slot.port === port);
  }

  /** A port for a device that comes. @throws CausewayError PORT_UNAVAILABLE */
  spare(port: string | undefined): GuestSlot & { readonly port: string } {
    const isSpare = (slot: GuestSlot): boolean => slot.port !== undefined && slot.functions.length === 0;
    const slot = port === undefined ? this.#slots.find(isSpare) : this.at(port);
    if (slot?.port !== undefined && isSpare(slot)) return slot as GuestSlot & { readonly port: string };
    const why =
      port === undefined
        ? 'no root port of the guest is spare'
        : slot
          ? `port ${port} holds ${slot.functions[0]!.bdf} already`
          : `the guest has no port ${port}`;
    throw new CausewayError('PORT_UNAVAILABLE', why, {
      hint: 'start the VM with hotplugPorts (--hotplug-ports N), or detach a device first',
    });
  }
}

/** Functions with their numbers in the guest. @throws CausewayError CONFIG_INVALID when they are not of one device */
export function placed(functions: readonly AssignedFunction[]): PlacedFunction[] {
  const stranger = functions.find(({ hostSlot }) => hostSlot !== functions[0]!.hostSlot);
  if (stranger) {
    throw new CausewayError(
      'CONFIG_INVALID',
      `${stranger.bdf} and ${functions[0]!.bdf} are not functions of one device`,
      {
        hint: 'attach one device at a time',
      },
    );
  }
  const numbers = functions.length > 0 ? numberFunctions(functions.map(({ bdf }) => Number(bdf.at(-1)))) : [];
  return functions.map((fn, i) => ({ fn, number: numbers[i]! }));
}
