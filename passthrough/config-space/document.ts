/** The text of docs/config-space.md: the permission table as people read it. */
import { ones } from '../../vmm/base/bits.ts';
import { capabilityName, GUARDED_EXT_CAP } from './capability-info.ts';
import {
  CAPABILITY_RULES,
  type CapabilityRule,
  EXTENDED_CAPABILITY_RULES,
  HEADER_BY_CODE,
  HEADER_RULES,
  type RegisterRule,
} from './permission-table.ts';

const BODY: Readonly<Record<CapabilityRule['body'], string>> = {
  closed: 'reads 0, takes no writes',
  image: 'reads what the hardware had when it was opened, takes no writes',
  device: 'reads the hardware, takes no writes',
  raw: 'reads and writes the hardware',
};
const COLUMNS =
  '| offset | register | read from the hardware | writes kept | writes to the hardware | why |\n| --- | --- | --- | --- | --- | --- |';

/** Always the same text for the same tables. */
export function configSpaceDocument(): string {
  const guarded = Object.values(GUARDED_EXT_CAP).map((id) => capabilityName('extended', id));
  return `# Config space of an assigned device

<!-- Made from passthrough/config-space/permission-table.ts by scripts/generate-docs.mjs. Do not edit. -->

What a guest may read and write of an assigned device's config space. It is closed by default: what no row names reads 0 and
takes no writes, whatever the hardware has there. Capabilities that are not listed are not in the guest's chain, and their
bytes are closed; offsets of those that are listed stay as they are in the hardware. \`causeway inspect BDF --config\` shows the
same for one device, byte range by byte range.

"Writes kept" never reach the hardware as such; where a handler acts on them, the last column says so. A register without
hardware bits reads what the hardware had at open, less the bits that the table leaves out.

## Header

${COLUMNS}
${headerRows().join('\n')}

## Capabilities

${CAPABILITY_RULES.map((rule) => section(rule, 'standard')).join('\n\n')}

## Extended capabilities

${EXTENDED_CAPABILITY_RULES.map((rule) => section(rule, 'extended')).join('\n\n')}

## Grants

An administrator can open registers of one device beside the table, from a file that belongs to root and that nobody else can
write (\`configPermit\`, \`--config-permit FILE\`), or while the guest runs. Each line grants bits of one dword, in hexadecimal:

    [1033:00e0]              # vendor:device, vendor:device:subvendor:subdevice, or a host address
    40 00000001 00000001     # <offset> <readbits> <writebits>

The guest then reads the hardware's bits in \`readbits\`, and writes those in \`writebits\` by read-modify-write. More write bits
than read bits need the word \`wo\` at the end of the line. A faulty line rejects the whole file. Refused unless forced
(\`configPermitForce\`): the header, headers of capabilities, MSI, MSI-X, power management, control words of PCI Express, and
these extended capabilities: ${guarded.join(', ')}.

A grant restricts the guest. It does not restrict the user who holds the device's file descriptor.
`;
}

type Row = Pick<RegisterRule, 'name' | 'offset' | 'width' | 'why'> & Partial<RegisterRule>;

function headerRows(): string[] {
  const rows: Row[] = [...HEADER_RULES, ...HEADER_BY_CODE];
  return rows.sort((a, b) => a.offset - b.offset).map(row);
}

function section({ id, name, body, registers, why }: CapabilityRule, kind: 'standard' | 'extended'): string {
  const number = `0x${id.toString(16).padStart(kind === 'standard' ? 2 : 4, '0')}`;
  const rest = registers.length > 0 ? 'The rest' : 'All of it';
  const remark = why === undefined ? '' : ` ${why[0]!.toUpperCase()}${why.slice(1)}.`;
  const isEmulated = why?.startsWith('emulated') ?? false;
  const text = isEmulated ? remark.trim() : `${rest} ${BODY[body]}.${remark}`;
  const table = registers.length > 0 ? `\n\n${COLUMNS}\n${registers.map(row).join('\n')}` : '';
  return `### ${name} (${number})\n\n${text}${table}`;
}

function row(rule: Row): string {
  const { name, offset, width, why = '', device = 0, writeImage = 0, writeDevice = 0, clear = 0 } = rule;
  const bits = (mask: number): string => {
    if (mask === 0) return '';
    return mask >>> 0 === ones(width) ? 'all' : `\`${(mask >>> 0).toString(16).padStart(2 * width, '0')}\``;
  };
  const kept = [bits(writeImage), clear === 0 ? '' : `${bits(clear)} (1 clears)`].filter(Boolean).join(', ');
  return `| ${offset.toString(16).padStart(2, '0')} | ${name} | ${bits(device)} | ${kept} | ${bits(writeDevice)} | ${why} |`;
}
