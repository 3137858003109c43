/**
 * A guest that does anything at all on several vCPUs, against the scripted kernel: the same seed does the same again.
 * Steps of the vCPUs are interleaved, as the machine thread serves their calls one after the other.
 */
import { GuestDriver } from './guest-driver.ts';
import { Invariants } from './invariants.ts';
import { Operations, type Step } from './operations.ts';
import { Random } from './random.ts';
import { World } from './world.ts';

export interface FuzzOptions {
  readonly seed: number;
  /** Steps of all vCPUs together: accesses and events. */
  readonly operations: number;
  /** Default 4. */
  readonly vcpus?: number;
  /**
   * Calls to the kernel fail now and then. Interrupts may then be missing, until a reboot; nothing else may happen.
   * Default: none.
   */
  readonly faults?: boolean;
  /** Called now and then with the steps done. */
  readonly onProgress?: (done: number) => void;
}

/** What was done, so that a run that hardly did anything shows. */
export interface FuzzFigures {
  readonly operations: number;
  /** Steps after which some BAR was mapped directly. */
  readonly stepsWithSlots: number;
  readonly mostSlots: number;
  readonly interrupts: number;
  readonly reboots: number;
  readonly guestResets: number;
  readonly warnings: number;
}

/** Everything that is not checked after each step is checked after so many. */
const CHECK_EVERY = 64;
const PROGRESS_EVERY = 10_000;
const FAULT_ONE_IN = 50;
/** Steps that a failure tells. */
const HISTORY = 40;

/** @throws Error with seed, step and history when an invariant does not hold or anything throws */
export function fuzz({ seed, operations, vcpus = 4, faults = false, onProgress }: FuzzOptions): FuzzFigures {
  const random = new Random(seed);
  const world = new World();
  const { machine } = world;
  const healthy = new GuestDriver(world);
  const invariants = new Invariants(world, !faults);
  const guests = new Operations(world, random, (fn, grants) => invariants.granted(fn, grants));
  const queues = Array.from({ length: vcpus }, (): Step[] => []);
  const history: string[] = [];
  const figures = { stepsWithSlots: 0, mostSlots: 0, interrupts: 0, reboots: 0, guestResets: 0 };
  let done = 0;
  try {
    for (; done < operations; done++) {
      const vcpu = random.below(vcpus);
      const queue = queues[vcpu]!;
      if (queue.length === 0) {
        if (faults && random.chance(FAULT_ONE_IN)) queue.push(guests.fault());
        queue.push(...guests.next());
      }
      const step = queue.shift()!;
      history.push(`vCPU ${vcpu}: ${step.what}`);
      if (history.length > HISTORY) history.shift();
      step.run();
      machine.kernel.flush();
      invariants.checkMapping();
      if (done % CHECK_EVERY === 0) {
        for (const device of world.devices)
          figures.guestResets += device.resets.filter((how) => how === 'function').length;
        invariants.checkDevices();
      }
      const slots = machine.vm.barSlots.length;
      if (slots > 0) figures.stepsWithSlots++;
      figures.mostSlots = Math.max(figures.mostSlots, slots);
      figures.interrupts += forget(world);
      if (step.what === 'reboot') figures.reboots++;
      if (done % PROGRESS_EVERY === 0) onProgress?.(done);
    }
    history.push('the end');
    invariants.checkDevices();
    for (const device of world.devices) device.lowPower = false;
    machine.kernel.journalBook.forgetFaults();
    for (const fn of world.functions) fn.setGrants([]);
    healthy.check();
    machine.session.close();
    const left = machine.kernel.openFds().filter(({ label }) => /vfio-(container|group|device)|eventfd/.test(label));
    if (left.length > 0) throw new Error(`left open: ${left.map(({ label }) => label).join(', ')}`);
  } catch (error) {
    throw new Error(`seed ${seed}, step ${done}: ${String(error)}\n${history.join('\n')}`, { cause: error });
  }
  return { operations: done, ...figures, warnings: machine.warnings.length };
}

/** What the scripted kernel keeps for tests grows without end. Returns how many interrupts there were. */
function forget({ machine }: World): number {
  const { vm } = machine.vm;
  const interrupts = vm.injections.length;
  vm.injections.length = 0;
  vm.routeTables.length = 0;
  machine.kernel.journalBook.clear();
  machine.events.length = 0;
  return interrupts;
}
