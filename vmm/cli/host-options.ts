/** The commands about the host's devices: their options and what the help says of them. */
import type { OptionTable } from './arguments.ts';

const json = { type: 'flag', help: 'print one JSON object' } as const;

export const DEVICES_OPTIONS = {
  all: { type: 'flag', help: 'also those that cannot be assigned: bridges' },
  json,
} as const satisfies OptionTable;

export const INSPECT_OPTIONS = {
  config: {
    type: 'flag',
    help: 'config space range by range: whose it is, what the guest may read and write, and why',
  },
  'config-permit': { type: 'text', value: 'FILE', help: 'with --config: as these grants would make it' },
  json,
} as const satisfies OptionTable;

export const BIND_OPTIONS = {
  'dry-run': { type: 'flag', help: 'print what would be written, and write nothing' },
  group: { type: 'flag', help: 'with everything in its IOMMU group' },
  force: { type: 'flag', help: 'even if the host uses the device: default route, mounted disk, boot display' },
  json,
} as const satisfies OptionTable;

export const RESTORE_OPTIONS = {
  'dry-run': { type: 'flag', help: 'print what would be written, and write nothing' },
  all: { type: 'flag', help: 'every device that was bound and not restored, and all VFs that were made' },
  json,
} as const satisfies OptionTable;

export const VFS_OPTIONS = {
  create: { type: 'whole', value: 'N', help: 'make so many virtual functions' },
  remove: { type: 'flag', help: 'remove those that were made, and put back what was changed' },
  'host-drivers': { type: 'flag', help: "let the host's drivers take the new ones (they get none)" },
  'dry-run': { type: 'flag', help: 'print what would be written, and write nothing' },
  json,
} as const satisfies OptionTable;

export const DOCTOR_OPTIONS = {
  memory: { type: 'text', value: 'SIZE', help: 'guest RAM that is to be pinned (512M)' },
  json,
} as const satisfies OptionTable;

interface HostHelp {
  readonly summary: string;
  readonly usage: string;
  readonly text: string;
  readonly options: OptionTable;
}

/** By command, in the order of the overview. */
export const HOST_HELP: Readonly<Record<string, HostHelp>> = {
  devices: {
    summary: 'list the PCI devices of this host',
    usage: 'devices [options]',
    text: 'Lists the PCI functions of this host: driver, IOMMU group, ways to reset.',
    options: DEVICES_OPTIONS,
  },
  inspect: {
    summary: 'tell how well a device can be assigned, without touching it',
    usage: 'inspect BDF [options]',
    text: `Reads what sysfs knows of a device and judges it by four criteria: BARs that can be mapped, MSI-X in pages of its
own, an interrupt that can be masked, config space without unknown registers. Nothing is bound, opened or written.
Without root, config space beyond 64 bytes cannot be read, and the report says what is unknown for that.`,
    options: INSPECT_OPTIONS,
  },
  bind: {
    summary: 'move a device to vfio-pci',
    usage: 'bind BDF... [options]',
    text: `Moves devices from their host driver to vfio-pci, looks whether that happened, and keeps a record of what was
before, so that "restore" finds back even after a crash. Refuses devices that the host depends on.`,
    options: BIND_OPTIONS,
  },
  restore: {
    summary: 'give a device back to its host driver',
    usage: 'restore BDF... [options]\n       causeway restore --all [options]',
    text: 'Puts devices back to the driver and override that they had before "bind".',
    options: RESTORE_OPTIONS,
  },
  vfs: {
    summary: 'list, make or remove virtual functions (SR-IOV)',
    usage: 'vfs BDF [options]',
    text: `Tells which virtual functions (VFs) a physical function has, makes some, or removes those that it made. New VFs get no
driver, so that "bind" can give them to vfio-pci; those of a function that is itself on vfio-pci go there at once. What was
before is kept on disk; a failure leaves everything as it was. VFs that are in use are not removed.`,
    options: VFS_OPTIONS,
  },
  doctor: {
    summary: 'find what keeps this host, or a device, from being used',
    usage: 'doctor [BDF...] [options]',
    text: `Checks KVM, IOMMU and VFIO, and for each device its group, its use by the host and what this user may open. Runs a
guest of a few instructions to see whether KVM is real or a slow emulation. Changes nothing.
Exit code: 0 nothing to remark, 1 warnings, 2 something is fatal.`,
    options: DOCTOR_OPTIONS,
  },
};
