/** The one entry: from a configuration to a machine that is ready to start. The composition root of machine and passthrough. */
import { loadNative } from '../../native/index.ts';
import type { Native } from '../../native/types.ts';
import type { PassthroughSession } from '../../passthrough/index.ts';
import { Disposer } from '../base/disposer.ts';
import { CausewayError, isCausewayError } from '../base/errors.ts';
import { checkBootFiles, prepareKernel } from '../boot/index.ts';
import type { VmConfig } from '../config/model.ts';
import { normaliseVmConfig } from '../config/normalise.ts';
import { physicalBits } from '../cpu/cpuid.ts';
import { checkKvm, openKvm } from '../kvm.ts';
import { GuestMemory } from '../memory/guest-memory.ts';
import { type MemoryLayout, memoryLayout, withinReach } from '../memory/layout.ts';
import { dropProgramPages } from '../memory/program-pages.ts';
import { PORT_WINDOW, placeSlots } from '../pci/bar-placement.ts';
import { ConfigStore } from '../pci/config-window.ts';
import type { SlotPlan } from '../pci/topology.ts';
import { Devices } from './devices.ts';
import { EventHub } from './event-hub.ts';
import { type OpenedConfig, resolveFds } from './inherited-fds.ts';
import type { ControlServer } from './serve-control.ts';
import { VirtualMachine } from './virtual-machine.ts';
import type { Vm, VmEvent } from './vm.ts';

export interface CreateVmOptions {
  /** The kernel seam; the addon when left out. */
  readonly native?: Native;
  /** Aborting closes the VM. */
  readonly signal?: AbortSignal;
}

type Passthrough = typeof import('../../passthrough/index.ts');

/** More than the root bus has functions and ports; a window that is not used costs no memory. */
const CONFIG_WINDOWS = 128;

/**
 * Checks everything, then opens KVM, memory and devices. The devices are reset and held from here on; nothing on the
 * host has changed when this throws.
 * @throws CausewayError: every problem found, the first one's code
 */
export async function createVm(config: VmConfig, { native = loadNative(), signal }: CreateVmOptions = {}): Promise<Vm> {
  const asked = resolveFds(normaliseVmConfig(config), process.env, process.pid);
  // Loaded only when there is something to assign: a VM without devices starts quicker and smaller.
  const passthrough = asked.devices.length > 0 ? await import('../../passthrough/index.ts') : undefined;
  const normal: OpenedConfig = { ...asked, devices: passthrough?.identifyDevices(native, asked.devices) ?? [] };
  const { kvm: kvmFd, ...given } = normal.fds;
  const iommu = { mode: normal.iommu, given };
  report([
    ...(kvmFd === undefined ? checkKvm(native) : []),
    ...checkBootFiles(normal),
    ...(passthrough?.checkDevices(native, normal.devices, normal.memoryBytes, { iommu }) ?? []),
  ]);
  signal?.throwIfAborted();

  const resources = new Disposer();
  const events = new EventHub<VmEvent>();
  let control: ControlServer | undefined;
  // Closed last: clients see how the devices are given back, and that the socket has gone means that they were.
  resources.defer(() => control?.close());
  try {
    const kvm = openKvm(native, kvmFd);
    resources.defer(() => kvm[Symbol.dispose]());
    if (normal.cpus > kvm.maxVcpus) {
      throw new CausewayError('CONFIG_INVALID', `cpus: KVM on this host allows ${kvm.maxVcpus} vCPUs`, {
        hint: 'lower cpus',
      });
    }
    const image = await prepareKernel(normal.kernel, { unpack: normal.unpackKernel });
    resources.defer(() => image.close());
    if (image.remark) events.emit({ type: 'warning', message: image.remark });
    const ports = new Set(normal.devices.flatMap(({ port }) => port ?? []));
    for (let number = 1; number <= normal.hotplugPorts; number++) ports.add(`hotplug${number}`);
    const layout = memoryLayout(normal.memoryBytes, physicalBits(kvm.cpuid), 1 + ports.size);
    dropProgramPages(native);
    const memory = new GuestMemory(native, layout.ram, { hugePageBytes: normal.hugePageBytes });
    resources.defer(() => memory.close());
    const store = new ConfigStore(CONFIG_WINDOWS);
    const warn = (message: string) => events.emit({ type: 'warning', message });
    const ram = memory.windows;
    let devices: Devices | undefined;
    const openSession = ({ openDevices }: Passthrough, wanted: OpenedConfig['devices']) =>
      openDevices({
        native,
        devices: wanted.map((device) => ({ ...device, place: device.port === undefined ? 'root-bus' : 'port' })),
        iommu,
        ram,
        store,
        guestCpuid: kvm.cpuid,
        warn,
        onEvent: (event) => devices?.hostEvent(event),
      });
    const session = passthrough && openSession(passthrough, normal.devices);
    resources.defer(() => (devices ?? session)?.close());
    devices = new Devices({
      devices: normal.devices,
      hotplugPorts: normal.hotplugPorts,
      session,
      openSession: async () => openSession(await import('../../passthrough/index.ts'), []),
      emit: (event) => events.emit(event),
    });
    const held = devices;
    const vm = new VirtualMachine({
      native,
      config: normal,
      kvm,
      layout: layoutFor(layout, devices.plan, session?.dmaRanges),
      memory,
      image,
      store,
      devices,
      events,
      resources,
    });
    if (normal.control !== false) {
      // Loaded only when wanted: HTTP/2 and the messages take 6 MiB.
      const { serveControl } = await import('./serve-control.ts');
      control = await serveControl(vm, normal.control === true ? normal.name : normal.control, {
        config: normal,
        events: events.observe(),
        permitConfig: (request) => held.permitConfig(request),
      });
    }
    signal?.addEventListener('abort', () => void vm.close().catch(() => {}), { once: true });
    return vm;
  } catch (error) {
    await resources.dispose();
    throw error;
  }
}

/** BARs go where other devices can reach them, unless they would not fit there. */
function layoutFor(
  layout: MemoryLayout,
  slots: readonly SlotPlan[],
  reachable: PassthroughSession['dmaRanges'],
): MemoryLayout {
  if (!reachable) return layout;
  const narrow = withinReach(layout, reachable);
  try {
    placeSlots(slots, { ...narrow, ports: PORT_WINDOW });
    return narrow;
  } catch (error) {
    if (!isCausewayError(error)) throw error;
    return layout;
  }
}

/** Throws what was found: one error as it is, several as one that lists all. */
function report(errors: readonly CausewayError[]): void {
  const [first, ...rest] = errors;
  if (!first) return;
  if (rest.length === 0) throw first;
  const all = errors.map((error) => error.message).join('\n');
  const hints = errors.flatMap((error) => (error.hint ? [error.hint] : [])).join('\n');
  throw new CausewayError(first.code, all, { hint: hints, cause: new AggregateError(errors) });
}
