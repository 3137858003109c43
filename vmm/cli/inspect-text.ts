/** The report of `causeway inspect` for people. */
import type { Criterion } from '../../passthrough/audit.ts';
import type { ConfigRange } from '../../passthrough/config-space/config-map.ts';
import type { InspectReport } from '../../passthrough/inspect.ts';
import { formatSize, hex } from '../base/units.ts';

const MARK: Readonly<Record<Criterion['verdict'], string>> = {
  pass: 'yes',
  warn: 'almost',
  fail: 'no',
  'n/a': 'does not apply',
  unknown: 'unknown',
};

/** Several lines with the last newline. */
export function formatInspect(report: InspectReport, wantsConfig: boolean): string {
  const lines = [...identity(report), '', ...group(report), '', 'Is it well-behaved?'];
  for (const criterion of report.audit.criteria) lines.push(...describeCriterion(criterion));
  lines.push('', ...bars(report), '', ...capabilities(report));
  if (wantsConfig) lines.push('', ...configLines(report));
  return `${lines.join('\n')}\n`;
}

function identity(report: InspectReport): string[] {
  const { bdf, vendor, device, subsystemVendor, subsystemDevice, name, className, classCode } = report;
  const ids = `${id(vendor)}:${id(device)}, subsystem ${id(subsystemVendor)}:${id(subsystemDevice)}`;
  const override = report.driverOverride ? `, override ${report.driverOverride}` : '';
  return [
    `${bdf} ${name ?? className ?? 'PCI function'}`,
    `  ids       ${ids}, class ${classCode.toString(16).padStart(6, '0')}${className ? ` (${className})` : ''}`,
    `  driver    ${report.driver ?? 'none'}${override}`,
    ...(report.physicalFunction ? [`  VF of     ${report.physicalFunction}`] : []),
    ...(report.sriov ? [`  SR-IOV    ${report.sriov.numVfs} of ${report.sriov.totalVfs} VFs`] : []),
    `  opened by ${report.iommu.backend}: ${report.iommu.why}`,
    ...(report.rom ? [`  ROM       ${describeRom(report.rom)}`] : []),
    `  reset     ${report.resetMethods.join(', ') || 'the kernel knows no way'}`,
    `  NUMA node ${report.numaNode ?? 'none'}`,
    ...(report.powerState ? [`  power     ${report.powerState}`] : []),
  ];
}

function describeRom({ sizeBytes, isShadowed, isReadable }: NonNullable<InspectReport['rom']>): string {
  const kind = isShadowed ? ', only the copy in RAM that firmware made' : '';
  const access = isReadable ? 'given to the guest with rom "host"' : 'not offered by the kernel: use rom "file:PATH"';
  return `${formatSize(sizeBytes)}${kind}; ${access}`;
}

function group({ bdf, group: found }: InspectReport): string[] {
  if (!found) return ['IOMMU group: none, so it cannot be assigned'];
  const members = found.members.map((member) => {
    const role = member.bdf === bdf ? '' : member.isBridge ? ' (bridge)' : '';
    const blocks = found.blocking.includes(member.bdf) ? ', keeps the group with the host' : '';
    return `  ${member.bdf} on ${member.driver ?? 'no driver'}${role}${blocks}`;
  });
  const reserved = found.reservedRegions.map((line) => `  reserved  ${line}`);
  return [`IOMMU group ${found.number}${found.type ? ` (${found.type})` : ''}:`, ...members, ...reserved];
}

function describeCriterion({ id: name, title, verdict, evidence, action }: Criterion): string[] {
  return [
    `  ${name} ${title}: ${MARK[verdict]}`,
    ...evidence.map((line) => `       ${line}`),
    `       -> Causeway ${action}`,
  ];
}

function bars({ audit, writeCombining }: InspectReport): string[] {
  if (audit.bars.length === 0) return ['BARs: none'];
  const wc = (bar: number): string => {
    const found = writeCombining.find((each) => each.bar === bar);
    return found ? `; write-combining for the guest: ${found.guestWc}` : '';
  };
  return [
    'BARs:',
    ...audit.bars.map((bar) => {
      const kind =
        bar.kind === 'port' ? 'ports' : `${bar.is64 ? '64' : '32'}-bit${bar.prefetchable ? ' prefetchable' : ''}`;
      const reach = bar.verdict === 'trap' ? 'trapped' : 'direct';
      return `  BAR${bar.bar} ${formatSize(bar.sizeBytes)} ${kind}: ${reach}${bar.why ? ` (${bar.why})` : ''}, ${bar.basis}${wc(bar.bar)}`;
    }),
  ];
}

function capabilities(report: InspectReport): string[] {
  if (report.configBytes <= 64) return ['Capabilities: only root can read them'];
  return [
    'Capabilities:',
    ...report.capabilities.map(
      ({ offset, name, sizeBytes, shown }) =>
        `  ${hex(offset, 3)}+${String(sizeBytes).padEnd(3)} ${name}: ${shown ? 'shown to the guest' : 'hidden'}`,
    ),
  ];
}

function configLines({ config }: InspectReport): string[] {
  if (!config) return ['Config space: only root can read it'];
  return ['Config space as the guest has it:', ...config.map(configLine)];
}

function configLine(range: ConfigRange): string {
  const last = range.offset + range.sizeBytes - 1;
  const where = `${range.offset.toString(16).padStart(3, '0')}-${last.toString(16).padStart(3, '0')}`;
  const why = range.why ? `  -- ${range.why}` : '';
  return `  ${where}  ${range.owner}  ${range.name}: ${reads(range)}; ${writes(range)}${why}`;
}

function reads({ reads: how, readMask }: ConfigRange): string {
  switch (how) {
    case 'hardware':
      return 'reads the hardware';
    case 'mixed':
      return `reads the hardware in ${readMask}`;
    case 'image':
      return 'reads a fixed or virtual value';
    case 'zero':
      return 'reads 0';
  }
}

function writes({ writes: where, imageWriteMask, hardwareWriteMask, clearMask }: ConfigRange): string {
  const parts = [
    ...(hardwareWriteMask ? [`writes ${hardwareWriteMask} of the hardware`] : []),
    ...(imageWriteMask ? [`writes ${imageWriteMask} virtually`] : []),
    ...(clearMask ? [`a 1 clears ${clearMask}`] : []),
  ];
  if (parts.length > 0) return parts.join(', ');
  return where === 'nowhere' ? 'takes no writes' : 'writes are emulated';
}

function id(value: number): string {
  return value.toString(16).padStart(4, '0');
}
