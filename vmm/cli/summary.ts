/** What a run was and cost, for people. */
import { formatSize, hex } from '../base/units.ts';
import type { ExitCounters, VmExit, VmReport } from '../control/vm.ts';
import {
  type BarArea,
  type BarReport,
  type FunctionReport,
  type GuestBdf,
  ROM_BAR,
  type RomReport,
  type TrappedPage,
} from '../pci/function.ts';

/** One line on how the run ended. */
export function describeExit(exit: VmExit): string {
  switch (exit.reason) {
    case 'shutdown':
      return 'the guest powered off';
    case 'reboot-limit':
      return `the guest rebooted once more than the ${exit.reboots} times allowed`;
    case 'debug-exit':
      return `the guest wrote ${exit.value} (${hex(exit.value)}) to the debug-exit port`;
    case 'crash':
      return `the guest crashed: ${exit.detail}`;
    case 'stopped':
      return 'the run was stopped';
  }
}

/** The summary, several lines without the last newline. */
export function formatSummary(report: VmReport): string {
  const { name, cpus, memoryBytes, reboots, devices, iommu } = report;
  return [
    `${name}: ${count(cpus, 'vCPU')}, ${formatSize(memoryBytes)}, ${count(reboots, 'reboot')}`,
    ...(iommu ? [`devices through ${iommu.backend}: ${iommu.why}`] : []),
    ...(devices.length === 0 ? ['no device assigned'] : devices.flatMap(describeDevice)),
    `exits to user space: ${describeExits(report.exits)}`,
  ].join('\n');
}

export function describeExits(exits: ExitCounters): string {
  const { total, port, console: consoleExits, mmio, config, kick, other } = exits;
  return `${total}: port ${port}, console ${consoleExits}, MMIO ${mmio}, config ${config}, kicks ${kick}, other ${other}`;
}

function describeDevice(device: FunctionReport): string[] {
  const { mode, routed, available } = device.interrupts;
  const names = { none: 'no interrupt in use', intx: 'INTx', msi: 'MSI', msix: 'MSI-X' };
  const vectors = mode === 'msi' || mode === 'msix' ? `, ${routed} of ${count(available, 'vector')} routed` : '';
  const where = device.address ? ` at guest ${formatGuestBdf(device.address)}` : '';
  const ids = Object.entries(device.ids ?? {}).map(([name, id]) => `${name} ${hex(id)}`);
  const resets = device.resets.map(({ when, method, ok, faults }) => {
    const found = faults ? ` (${faults.join('; ')})` : '';
    return `${when} ${method}${ok ? '' : ' FAILED'}${found}`;
  });
  return [
    `${device.label}${where}: ${names[mode]}${vectors}`,
    ...(ids.length > 0 ? [`  shown to the guest as ${ids.join(', ')}`] : []),
    ...device.bars.map((bar) => `  ${describeBar(bar)}`),
    ...(device.msixRelocation === undefined ? [] : [`  MSI-X table: ${device.msixRelocation}`]),
    ...(device.trappedPages ?? []).map((page) => `  ${describePage(page)}`),
    ...(device.rom ? [`  ROM: ${describeRom(device.rom)}`] : []),
    ...(resets.length > 0 ? [`  resets: ${resets.join(', ')}`] : []),
  ];
}

function describeBar(bar: BarReport): string {
  const kind =
    bar.kind === 'port' ? 'ports' : `${bar.is64 ? '64' : '32'}-bit${bar.prefetchable ? ' prefetchable' : ''}`;
  const where = bar.gpa === undefined ? '' : ` at ${hex(bar.gpa)}`;
  const name = bar.index === ROM_BAR ? 'ROM BAR' : `BAR ${bar.index}`;
  return `${name}: ${formatSize(bar.sizeBytes)} ${kind}${where}: ${describeAreas(bar)}${describeWc(bar)}${bar.p2p === undefined ? '' : `; for other devices: ${bar.p2p}`}`;
}

function describePage({ bar, offset, why, accesses, isHot }: TrappedPage): string {
  return `trapped page BAR ${bar}+${hex(offset)} (${why}): ${count(accesses, 'access', 'accesses')}${isHot ? ', HOT' : ''}`;
}

function describeRom({ source, offered, sizeBytes, images, faults }: RomReport): string {
  const what = offered ? `${formatSize(sizeBytes)} from ${source}` : `none (${source})`;
  return [what, ...images, ...faults].join('; ');
}

/** Only where it can matter: the guest's drivers ask for it on prefetchable BARs, or the user asked. */
function describeWc({ prefetchable, wc }: BarReport): string {
  if (!wc || !(prefetchable || wc.mode !== 'auto')) return '';
  const host = wc.hostWc === undefined ? '' : `, for the VMM ${wc.hostWc}`;
  return `; write-combining for the guest: ${wc.guestWc}${host}`;
}

function describeAreas(bar: BarReport): string {
  const [first, ...rest] = bar.areas;
  if (!first) return 'not mapped';
  if (rest.length === 0 && first.sizeBytes === bar.sizeBytes) return describeMode(first);
  return bar.areas.map((area) => `${hex(area.offset)}+${formatSize(area.sizeBytes)} ${describeMode(area)}`).join(', ');
}

function describeMode({ mode, why }: BarArea): string {
  return `${mode === 'direct' ? 'direct' : 'trapped'}${why ? ` (${why})` : ''}`;
}

function formatGuestBdf({ bus, device, function: fn }: GuestBdf): string {
  const pair = (value: number): string => value.toString(16).padStart(2, '0');
  return `${pair(bus)}:${pair(device)}.${fn}`;
}

function count(n: number, noun: string, plural = `${noun}s`): string {
  return `${n} ${n === 1 ? noun : plural}`;
}
