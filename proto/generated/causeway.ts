/** Made from proto/ by scripts/generate-proto.mjs. Do not edit. */
import type { EnumSchema, MessageSchema, MethodSchema, Schema } from '../schema.ts';

/** One for each arm of VmEvent that may be asked for. */
export type VmEventKind = 'VM_EVENT_KIND_UNSPECIFIED' | 'VM_EVENT_KIND_STATE' | 'VM_EVENT_KIND_REBOOT' | 'VM_EVENT_KIND_WARNING' | 'VM_EVENT_KIND_DEVICE' | 'VM_EVENT_KIND_EXIT' | 'VM_EVENT_KIND_DEVICE_ATTACHED' | 'VM_EVENT_KIND_DEVICE_DETACH_REQUESTED' | 'VM_EVENT_KIND_DEVICE_DETACHED';

/** What devices are opened through. */
export type IommuMode = 'IOMMU_MODE_UNSPECIFIED' | 'IOMMU_MODE_AUTO' | 'IOMMU_MODE_CONTAINER' | 'IOMMU_MODE_IOMMUFD';

export type WcMode = 'WC_MODE_UNSPECIFIED' | 'WC_MODE_AUTO' | 'WC_MODE_REQUIRE' | 'WC_MODE_DENY' | 'WC_MODE_HOST';

export type VmState = 'VM_STATE_UNSPECIFIED' | 'VM_STATE_CREATED' | 'VM_STATE_RUNNING' | 'VM_STATE_PAUSED' | 'VM_STATE_STOPPING' | 'VM_STATE_STOPPED' | 'VM_STATE_CLOSED';

export type BarKind = 'BAR_KIND_UNSPECIFIED' | 'BAR_KIND_MEMORY' | 'BAR_KIND_PORT';

export type BarAreaMode = 'BAR_AREA_MODE_UNSPECIFIED' | 'BAR_AREA_MODE_DIRECT' | 'BAR_AREA_MODE_TRAP';

export type InterruptMode = 'INTERRUPT_MODE_UNSPECIFIED' | 'INTERRUPT_MODE_NONE' | 'INTERRUPT_MODE_INTX' | 'INTERRUPT_MODE_MSI' | 'INTERRUPT_MODE_MSIX';

export type ResetOccasion = 'RESET_OCCASION_UNSPECIFIED' | 'RESET_OCCASION_BOOT' | 'RESET_OCCASION_REBOOT' | 'RESET_OCCASION_RELEASE' | 'RESET_OCCASION_GUEST' | 'RESET_OCCASION_ERROR';

/** The closed vocabulary of vmm/base/errors.ts; docs/errors.md explains each. Numbers are never used again. */
export type ErrorCode = 'ERROR_CODE_UNSPECIFIED' | 'ERROR_CODE_USAGE' | 'ERROR_CODE_CONFIG_INVALID' | 'ERROR_CODE_KERNEL_NOT_FOUND' | 'ERROR_CODE_KERNEL_INVALID' | 'ERROR_CODE_INITRD_NOT_FOUND' | 'ERROR_CODE_INITRD_TOO_BIG' | 'ERROR_CODE_CMDLINE_TOO_LONG' | 'ERROR_CODE_MEMORY_TOO_SMALL' | 'ERROR_CODE_MEMORY_UNAVAILABLE' | 'ERROR_CODE_KVM_MISSING' | 'ERROR_CODE_KVM_PERMISSION' | 'ERROR_CODE_KVM_UNSUPPORTED' | 'ERROR_CODE_ADDON_MISSING' | 'ERROR_CODE_DEVICE_NOT_FOUND' | 'ERROR_CODE_DEVICE_NOT_ENDPOINT' | 'ERROR_CODE_DEVICE_NOT_BOUND' | 'ERROR_CODE_DEVICE_BUSY' | 'ERROR_CODE_DEVICE_UNSUPPORTED' | 'ERROR_CODE_DEVICE_LOST' | 'ERROR_CODE_DEVICE_RESET_FAILED' | 'ERROR_CODE_IOMMU_MISSING' | 'ERROR_CODE_IRQ_REMAPPING_MISSING' | 'ERROR_CODE_GROUP_NOT_VIABLE' | 'ERROR_CODE_VFIO_MISSING' | 'ERROR_CODE_VFIO_PERMISSION' | 'ERROR_CODE_VF_TOKEN_REQUIRED' | 'ERROR_CODE_MEMLOCK_TOO_LOW' | 'ERROR_CODE_DMA_MAP_FAILED' | 'ERROR_CODE_BAR_NO_SPACE' | 'ERROR_CODE_TOO_MANY_DEVICES' | 'ERROR_CODE_GUEST_CRASHED' | 'ERROR_CODE_REBOOT_LIMIT' | 'ERROR_CODE_TIMEOUT' | 'ERROR_CODE_ABORTED' | 'ERROR_CODE_STATE' | 'ERROR_CODE_INTERNAL' | 'ERROR_CODE_CONTROL_UNAVAILABLE' | 'ERROR_CODE_DEVICE_IN_USE' | 'ERROR_CODE_PORT_UNAVAILABLE' | 'ERROR_CODE_SRIOV_FAILED';

export interface GetVmRequest {}

export interface GetVmResponse {
  readonly vm?: VmInfo | undefined;
}

export interface PauseVmRequest {}

export interface PauseVmResponse {}

export interface ResumeVmRequest {}

export interface ResumeVmResponse {}

export interface PressPowerButtonRequest {}

export interface PressPowerButtonResponse {}

export interface StopVmRequest {}

export interface StopVmResponse {
  readonly exit?: VmExit | undefined;
}

export interface InjectNmiRequest {}

export interface InjectNmiResponse {}

export interface WaitVmRequest {
  /** Then the call fails with TIMEOUT. Left out: no limit. */
  readonly timeoutMs?: number | undefined;
}

export interface WaitVmResponse {
  readonly exit?: VmExit | undefined;
}

export interface SubscribeEventsRequest {
  /** Events after this one, as far as they are kept; 0 for all that are. Left out: only those to come. */
  readonly sinceEventId?: bigint | undefined;
  /** Only these kinds. Empty: all. */
  readonly kinds: readonly VmEventKind[];
}

export interface AttachConsoleRequest {
  /** Comes first, once; output begins then. */
  readonly start?: AttachConsoleStart | undefined;
  /** What is typed. */
  readonly data?: Uint8Array | undefined;
}

export interface AttachConsoleStart {
  /** Output from this offset on, as far as it is kept. Left out: only what is to come. */
  readonly offset?: bigint | undefined;
}

export interface ReadConsoleLogRequest {
  /** From this offset on, as far as it is kept. */
  readonly offset: bigint;
  /** Go on with what is to come. */
  readonly follow: boolean;
}

/** A piece of output. To resume, ask for offset plus the length of data. */
export interface ConsoleOutput {
  /** Bytes that the guest wrote before data. */
  readonly offset: bigint;
  readonly data: Uint8Array;
  /** Bytes right before data that are lost, because the reader was too slow or came too late. */
  readonly droppedBytes: bigint;
}

export interface AttachDeviceRequest {
  /** One device, or several functions of one host device. */
  readonly devices: readonly DeviceConfig[];
}

export interface AttachDeviceResponse {
  /** Host addresses, in full form. */
  readonly bdfs: readonly string[];
  /** Name of the root port. */
  readonly port: string;
}

export interface DetachDeviceRequest {
  /** Host address. Other functions of its slot in the guest leave with it. */
  readonly bdf: string;
  /** How long the guest may take. Default: 15 s. */
  readonly timeoutMs?: number | undefined;
  /** Takes the device away when the guest does not let go of it in time. */
  readonly force: boolean;
}

export interface DetachDeviceResponse {
  readonly bdfs: readonly string[];
  /** "released" or "forced". */
  readonly how: string;
}

/** Takes the place of all grants that the device had. */
export interface ConfigPermitRequest {
  /** Host address of an assigned device. */
  readonly bdf: string;
  /** Path of a root-owned file of grants. */
  readonly configPermitFile?: string | undefined;
  /** Taken only when the monitor runs as root: others cannot open its socket then. */
  readonly configPermitLines?: GrantLines | undefined;
  /** Also take grants on registers that guard the host. */
  readonly force: boolean;
}

export interface ConfigPermitResponse {
  /** What is open from now on. */
  readonly grants: readonly ConfigGrant[];
}

/** Bits of one dword of a device's config space, closed by default, that the guest may use on the hardware. */
export interface ConfigGrant {
  /** In bytes, aligned to 4, below 0x1000. */
  readonly offset: number;
  /** Read from the hardware at every access. */
  readonly readBits: number;
  /** Written to the hardware. More than read_bits only with write_only. */
  readonly writeBits: number;
  /** Bits that may be written and not read are meant so. */
  readonly writeOnly: boolean;
}

export interface VmEvent {
  /** Counts up by one from 1 for as long as the VM's process lives. */
  readonly id: bigint;
  /** When the server heard of it. */
  readonly time?: Timestamp | undefined;
  readonly state?: StateChanged | undefined;
  readonly reboot?: Rebooted | undefined;
  readonly warning?: Warning | undefined;
  readonly device?: DeviceEvent | undefined;
  readonly exit?: Exited | undefined;
  /** Always delivered, whatever the filter. */
  readonly dropped?: EventsDropped | undefined;
  readonly deviceAttached?: DeviceAttached | undefined;
  readonly deviceDetachRequested?: DeviceDetachRequested | undefined;
  readonly deviceDetached?: DeviceDetached | undefined;
}

export interface StateChanged {
  readonly state: VmState;
}

/** The guest has rebooted. */
export interface Rebooted {
  /** So many times now. */
  readonly count: bigint;
}

/** Something that a person should know. */
export interface Warning {
  readonly message: string;
}

/** Something happened to an assigned device. */
export interface DeviceEvent {
  /** The function's label, as in FunctionReport. */
  readonly label: string;
  readonly what: string;
  /** Host address. */
  readonly bdf: string;
}

/** The functions of one device were plugged in while the VM was there. */
export interface DeviceAttached {
  /** Host addresses. */
  readonly bdfs: readonly string[];
  readonly port: string;
}

/** The guest was asked to let go of a device. */
export interface DeviceDetachRequested {
  readonly bdfs: readonly string[];
  /** "user", or "host" when its driver is being unbound there. */
  readonly by: string;
}

/** A device was given back. */
export interface DeviceDetached {
  readonly bdfs: readonly string[];
  /** "released": the guest let go of it, or was off; "forced": it was taken away. */
  readonly how: string;
}

/** The run has ended. */
export interface Exited {
  readonly exit?: VmExit | undefined;
}

/** The reader was too slow, or came too late: events before this one are gone. Its id is that of the last one lost. */
export interface EventsDropped {
  readonly count: bigint;
}

/** What a user writes. A field that is left out gets the default that stands beside it. */
export interface VmConfig {
  /** For messages and the control socket. Default: vm. */
  readonly name?: string | undefined;
  /** Path of a bzImage or of an x86-64 ELF kernel. Required. */
  readonly kernel: string;
  /** Path of the initial RAM disk. Default: none. */
  readonly initrd?: string | undefined;
  /** Kernel command line. Default: console=ttyS0. */
  readonly cmdline?: string | undefined;
  /** Guest RAM; a multiple of 4 KiB, at least 16 MiB, below 2^53. Default: 512 MiB. */
  readonly memoryBytes?: bigint | undefined;
  /** vCPUs, 1 to 64. Default: 1. */
  readonly cpus?: number | undefined;
  /** Huge pages of the host's reserve behind guest RAM: 0 (none), 2 MiB or 1 GiB. Default: 0. */
  readonly hugePageBytes?: bigint | undefined;
  readonly devices: readonly DeviceConfig[];
  /** Reboots of the guest that are carried out; the next one ends the run. Below 2^53. Left out: no limit. */
  readonly rebootLimit?: bigint | undefined;
  /** Unpack the kernel's payload on the host. Default: true. */
  readonly unpackKernel?: boolean | undefined;
  /**
   * Control socket: a name in the user's folder for sockets, or a path with a slash in it; empty for the VM's own name.
   * Left out: none.
   */
  readonly control?: string | undefined;
  /** A second serial port, COM2, for programs. Default: false. */
  readonly channel?: boolean | undefined;
  /** Root ports "hotplug1" to "hotplugN" for devices that are attached later, 0 to 16. Default: 0. */
  readonly hotplugPorts?: number | undefined;
  /** What devices are opened through. Default: AUTO. */
  readonly iommu?: IommuMode | undefined;
  /** Files that another process opened, so that the monitor need not. */
  readonly fds?: HostFds | undefined;
}

/** Files that the monitor inherited, each by its number in decimal or by its name in LISTEN_FDNAMES. */
export interface HostFds {
  /** dev/kvm */
  readonly kvm?: string | undefined;
  /** dev/vfio/vfio */
  readonly container?: string | undefined;
  /** dev/iommu */
  readonly iommufd?: string | undefined;
}

/** One assigned PCI function. */
export interface DeviceConfig {
  /** Host address; the domain may be left out. Empty where device_fd tells it. */
  readonly bdf: string;
  /** Path of a root-owned file of grants. */
  readonly configPermitFile?: string | undefined;
  /** Only root may give these. */
  readonly configPermitLines?: GrantLines | undefined;
  /** Also take grants on registers that guard the host. Default: false. */
  readonly configPermitForce?: boolean | undefined;
  /** Write-combining. Default: AUTO for every BAR. */
  readonly wc?: WcModes | undefined;
  /** The expansion ROM that the guest gets: "off", "host" or "file:PATH". Default: off. */
  readonly rom?: string | undefined;
  /** Identifiers that the guest sees in place of the device's own. */
  readonly ids?: PciIds | undefined;
  /** UUID that a physical function on vfio-pci shares with its virtual functions. */
  readonly vfToken?: string | undefined;
  /** Files that the monitor inherited, by number in decimal or by name in LISTEN_FDNAMES: the device, and its group. */
  readonly deviceFd?: string | undefined;
  readonly groupFd?: string | undefined;
  /** Where the guest finds the MSI-X table: "off", "auto" or "bar0" to "bar5". Default: off. */
  readonly msixRelocation?: string | undefined;
  /** How the device is reset: "auto", "hot", "none", or a name of the kernel's in sysfs reset_method. Default: auto. */
  readonly reset?: string | undefined;
  /** Let the other devices of the VM reach its BARs by DMA. Default: false. */
  readonly p2p?: boolean | undefined;
  /** Name of the root port that the guest has it behind. Default: on the root bus. */
  readonly port?: string | undefined;
  /** After an uncorrectable error of the device: "report", "pause", "stop" or "reset". Default: report. */
  readonly onError?: string | undefined;
}

/** Identifiers of a function: 16 bits each, the revision 8. What is left out is the device's own. */
export interface PciIds {
  readonly vendor?: number | undefined;
  readonly device?: number | undefined;
  readonly subsystemVendor?: number | undefined;
  readonly subsystemDevice?: number | undefined;
  readonly revision?: number | undefined;
}

/** Grants as lines "<offset> <readbits> <writebits> [wo]", all hexadecimal. */
export interface GrantLines {
  readonly lines: readonly string[];
}

export interface WcModes {
  /** For BARs that are not listed. */
  readonly default: WcMode;
  readonly bars: readonly BarWcMode[];
}

export interface BarWcMode {
  /** 0 to 5. */
  readonly bar: number;
  readonly mode: WcMode;
}

/** A VM as its process sees it now. */
export interface VmInfo {
  readonly state: VmState;
  /** Process of the virtual machine monitor. */
  readonly pid: number;
  readonly report?: VmReport | undefined;
  /** Present once the run has ended. */
  readonly exit?: VmExit | undefined;
  /** The complete configuration, where the server was given it. */
  readonly config?: VmConfig | undefined;
}

export interface VmReport {
  readonly name: string;
  readonly cpus: number;
  readonly memoryBytes: bigint;
  readonly kernel: string;
  readonly devices: readonly FunctionReport[];
  readonly exits?: ExitCounters | undefined;
  readonly reboots: bigint;
  /** What the devices are opened through; absent without devices. */
  readonly iommu?: IommuReport | undefined;
}

export interface IommuReport {
  readonly backend: IommuMode;
  /** Why this one, as a clause for people. */
  readonly why: string;
}

/** How a run ended. */
export interface VmExit {
  readonly shutdown?: VmExitShutdown | undefined;
  readonly rebootLimit?: VmExitRebootLimit | undefined;
  readonly debugExit?: VmExitDebugExit | undefined;
  readonly crash?: VmExitCrash | undefined;
  readonly stopped?: VmExitStopped | undefined;
}

/** The guest powered off. */
export interface VmExitShutdown {}

/** The guest wanted to reboot once more than allowed. */
export interface VmExitRebootLimit {
  readonly reboots: bigint;
}

/** The guest wrote this to the debug-exit port 0xf4. */
export interface VmExitDebugExit {
  readonly value: bigint;
}

/** The guest did something that KVM cannot carry on from. */
export interface VmExitCrash {
  readonly detail: string;
}

/** Somebody stopped it. */
export interface VmExitStopped {}

/** Exits to user space since the VM was created, by kind. */
export interface ExitCounters {
  /** Port I/O, without the serial and PCI config ports. */
  readonly port: bigint;
  /** Accesses to serial ports: the console and, where there is one, the channel. */
  readonly console: bigint;
  /** Memory-mapped I/O, without PCI config space. */
  readonly mmio: bigint;
  /** PCI config space, by port or ECAM. */
  readonly config: bigint;
  /** Returns of KVM_RUN that the monitor asked for. */
  readonly kick: bigint;
  readonly other: bigint;
  readonly total: bigint;
}

/** A PCI function as the guest has it. */
export interface FunctionReport {
  /** For people: "0000:01:00.0 8086:10d3". */
  readonly label: string;
  /** Absent while the guest is off. */
  readonly address?: GuestBdf | undefined;
  readonly bars: readonly BarReport[];
  readonly interrupts?: InterruptReport | undefined;
  /** Resets that were done, oldest first. */
  readonly resets: readonly ResetReport[];
  /** Present where an expansion ROM was asked for. */
  readonly rom?: RomReport | undefined;
  /** Identifiers that the guest sees in place of the device's own. */
  readonly ids?: PciIds | undefined;
  /** What became of the wish to move the MSI-X table; only where there was one. */
  readonly msixRelocation?: string | undefined;
  /** Those that were touched most, most first. */
  readonly trappedPages: readonly TrappedPage[];
}

/** A page of a BAR whose accesses are exits to user space. */
export interface TrappedPage {
  readonly bar: number;
  /** From the start of the BAR, in bytes. */
  readonly offset: bigint;
  /** As in BarArea. */
  readonly why: string;
  /** Since the device was opened. */
  readonly accesses: bigint;
  /** It was accessed so often in a short time that it costs. */
  readonly isHot: boolean;
}

/** The expansion ROM of a function, as it was found when the device was opened. */
export interface RomReport {
  /** "host", or "file:PATH". */
  readonly source: string;
  /** Bytes of the ROM; 0 when there is none to be had. */
  readonly sizeBytes: bigint;
  /** Whether the guest has it. */
  readonly offered: boolean;
  /** The images in it, for people: "x86 8086:10d3, 64 KiB". */
  readonly images: readonly string[];
  /** What is wrong with it, for people. */
  readonly faults: readonly string[];
}

/** The guest's address of a function; never the host's. */
export interface GuestBdf {
  readonly bus: number;
  readonly device: number;
  readonly function: number;
}

export interface BarReport {
  /** 0 to 5; a 64-bit BAR has the index of its lower half. 6: the expansion ROM. */
  readonly index: number;
  readonly sizeBytes: bigint;
  readonly kind: BarKind;
  readonly is64: boolean;
  readonly prefetchable: boolean;
  /** Guest-physical address, or port; absent while not decoded. */
  readonly gpa?: bigint | undefined;
  readonly areas: readonly BarArea[];
  /** Memory BARs of assigned devices. */
  readonly wc?: WriteCombining | undefined;
  /** Whether other devices reach it by DMA: "mapped", or "no (reason)". Only where that was asked for. */
  readonly p2p?: string | undefined;
}

/** What holds of write-combining on one BAR. Never more than was seen. */
export interface WriteCombining {
  /** What was asked for. */
  readonly mode: WcMode;
  /** "yes" when the guest gets it on some area as soon as it asks; else "no (reasons)". */
  readonly guestWc: string;
  readonly areas: readonly WcArea[];
  /** The guest sees the prefetchable bit, behind which its user space may ask. */
  readonly guestWcAdvertised: boolean;
  /** Memory type of the monitor's own mapping. */
  readonly hostType: string;
  /** Only where the mode asks for it on the host's side. */
  readonly hostWc?: string | undefined;
  readonly evidence: readonly string[];
  /** Largest page that can map a direct area, while the guest decodes the BAR. */
  readonly largestPageBytes?: bigint | undefined;
}

export interface WcArea {
  /** From the start of the BAR, in bytes. */
  readonly offset: bigint;
  readonly sizeBytes: bigint;
  readonly guestWc: boolean;
  /** Why not, for example "trapped". */
  readonly why?: string | undefined;
}

/** How a part of a BAR reaches the guest. */
export interface BarArea {
  /** From the start of the BAR, in bytes. */
  readonly offset: bigint;
  readonly sizeBytes: bigint;
  readonly mode: BarAreaMode;
  /** Why it is trapped, for example "msix-table". */
  readonly why?: string | undefined;
}

export interface InterruptReport {
  readonly mode: InterruptMode;
  /** Vectors that the mode in use has. */
  readonly available: number;
  /** Vectors that go straight from the device to the guest now. */
  readonly routed: number;
}

export interface ResetReport {
  readonly when: ResetOccasion;
  /** How: "flr", "hot-reset" … */
  readonly method: string;
  readonly ok: boolean;
  /** What the device then had that it should not, for people. */
  readonly faults: readonly string[];
}

export interface Error {
  readonly code: ErrorCode;
  readonly message: string;
  /** Positive errno of the kernel call that failed. */
  readonly errno?: number | undefined;
  /** That call, for example VFIO_IOMMU_MAP_DMA. */
  readonly syscall?: string | undefined;
  /** The file concerned. */
  readonly path?: string | undefined;
  /** Host address of the device concerned. */
  readonly bdf?: string | undefined;
  /** What to do next. */
  readonly hint?: string | undefined;
  /** Every fault of a configuration. */
  readonly issues: readonly ConfigIssue[];
}

export interface ConfigIssue {
  /** Where: "devices[1].bdf"; empty for the whole. */
  readonly path: string;
  readonly message: string;
}

export interface Timestamp {
  readonly seconds: bigint;
  readonly nanos: number;
}

export interface Any {
  readonly typeUrl: string;
  readonly value: Uint8Array;
}

export interface Status {
  readonly code: number;
  readonly message: string;
  readonly details: readonly Any[];
}

/** Every message, by name. */
export interface MessageTypes {
  GetVmRequest: GetVmRequest;
  GetVmResponse: GetVmResponse;
  PauseVmRequest: PauseVmRequest;
  PauseVmResponse: PauseVmResponse;
  ResumeVmRequest: ResumeVmRequest;
  ResumeVmResponse: ResumeVmResponse;
  PressPowerButtonRequest: PressPowerButtonRequest;
  PressPowerButtonResponse: PressPowerButtonResponse;
  StopVmRequest: StopVmRequest;
  StopVmResponse: StopVmResponse;
  InjectNmiRequest: InjectNmiRequest;
  InjectNmiResponse: InjectNmiResponse;
  WaitVmRequest: WaitVmRequest;
  WaitVmResponse: WaitVmResponse;
  SubscribeEventsRequest: SubscribeEventsRequest;
  AttachConsoleRequest: AttachConsoleRequest;
  AttachConsoleStart: AttachConsoleStart;
  ReadConsoleLogRequest: ReadConsoleLogRequest;
  ConsoleOutput: ConsoleOutput;
  AttachDeviceRequest: AttachDeviceRequest;
  AttachDeviceResponse: AttachDeviceResponse;
  DetachDeviceRequest: DetachDeviceRequest;
  DetachDeviceResponse: DetachDeviceResponse;
  ConfigPermitRequest: ConfigPermitRequest;
  ConfigPermitResponse: ConfigPermitResponse;
  ConfigGrant: ConfigGrant;
  VmEvent: VmEvent;
  StateChanged: StateChanged;
  Rebooted: Rebooted;
  Warning: Warning;
  DeviceEvent: DeviceEvent;
  DeviceAttached: DeviceAttached;
  DeviceDetachRequested: DeviceDetachRequested;
  DeviceDetached: DeviceDetached;
  Exited: Exited;
  EventsDropped: EventsDropped;
  VmConfig: VmConfig;
  HostFds: HostFds;
  DeviceConfig: DeviceConfig;
  PciIds: PciIds;
  GrantLines: GrantLines;
  WcModes: WcModes;
  BarWcMode: BarWcMode;
  VmInfo: VmInfo;
  VmReport: VmReport;
  IommuReport: IommuReport;
  VmExit: VmExit;
  VmExitShutdown: VmExitShutdown;
  VmExitRebootLimit: VmExitRebootLimit;
  VmExitDebugExit: VmExitDebugExit;
  VmExitCrash: VmExitCrash;
  VmExitStopped: VmExitStopped;
  ExitCounters: ExitCounters;
  FunctionReport: FunctionReport;
  TrappedPage: TrappedPage;
  RomReport: RomReport;
  GuestBdf: GuestBdf;
  BarReport: BarReport;
  WriteCombining: WriteCombining;
  WcArea: WcArea;
  BarArea: BarArea;
  InterruptReport: InterruptReport;
  ResetReport: ResetReport;
  Error: Error;
  ConfigIssue: ConfigIssue;
  Timestamp: Timestamp;
  Any: Any;
  Status: Status;
}

const enums = {
  VmEventKind: {"VM_EVENT_KIND_UNSPECIFIED":0,"VM_EVENT_KIND_STATE":1,"VM_EVENT_KIND_REBOOT":2,"VM_EVENT_KIND_WARNING":3,"VM_EVENT_KIND_DEVICE":4,"VM_EVENT_KIND_EXIT":5,"VM_EVENT_KIND_DEVICE_ATTACHED":6,"VM_EVENT_KIND_DEVICE_DETACH_REQUESTED":7,"VM_EVENT_KIND_DEVICE_DETACHED":8},
  IommuMode: {"IOMMU_MODE_UNSPECIFIED":0,"IOMMU_MODE_AUTO":1,"IOMMU_MODE_CONTAINER":2,"IOMMU_MODE_IOMMUFD":3},
  WcMode: {"WC_MODE_UNSPECIFIED":0,"WC_MODE_AUTO":1,"WC_MODE_REQUIRE":2,"WC_MODE_DENY":3,"WC_MODE_HOST":4},
  VmState: {"VM_STATE_UNSPECIFIED":0,"VM_STATE_CREATED":1,"VM_STATE_RUNNING":2,"VM_STATE_PAUSED":3,"VM_STATE_STOPPING":4,"VM_STATE_STOPPED":5,"VM_STATE_CLOSED":6},
  BarKind: {"BAR_KIND_UNSPECIFIED":0,"BAR_KIND_MEMORY":1,"BAR_KIND_PORT":2},
  BarAreaMode: {"BAR_AREA_MODE_UNSPECIFIED":0,"BAR_AREA_MODE_DIRECT":1,"BAR_AREA_MODE_TRAP":2},
  InterruptMode: {"INTERRUPT_MODE_UNSPECIFIED":0,"INTERRUPT_MODE_NONE":1,"INTERRUPT_MODE_INTX":2,"INTERRUPT_MODE_MSI":3,"INTERRUPT_MODE_MSIX":4},
  ResetOccasion: {"RESET_OCCASION_UNSPECIFIED":0,"RESET_OCCASION_BOOT":1,"RESET_OCCASION_REBOOT":2,"RESET_OCCASION_RELEASE":3,"RESET_OCCASION_GUEST":4,"RESET_OCCASION_ERROR":5},
  ErrorCode: {"ERROR_CODE_UNSPECIFIED":0,"ERROR_CODE_USAGE":1,"ERROR_CODE_CONFIG_INVALID":2,"ERROR_CODE_KERNEL_NOT_FOUND":3,"ERROR_CODE_KERNEL_INVALID":4,"ERROR_CODE_INITRD_NOT_FOUND":5,"ERROR_CODE_INITRD_TOO_BIG":6,"ERROR_CODE_CMDLINE_TOO_LONG":7,"ERROR_CODE_MEMORY_TOO_SMALL":8,"ERROR_CODE_MEMORY_UNAVAILABLE":9,"ERROR_CODE_KVM_MISSING":10,"ERROR_CODE_KVM_PERMISSION":11,"ERROR_CODE_KVM_UNSUPPORTED":12,"ERROR_CODE_ADDON_MISSING":13,"ERROR_CODE_DEVICE_NOT_FOUND":14,"ERROR_CODE_DEVICE_NOT_ENDPOINT":15,"ERROR_CODE_DEVICE_NOT_BOUND":16,"ERROR_CODE_DEVICE_BUSY":17,"ERROR_CODE_DEVICE_UNSUPPORTED":18,"ERROR_CODE_DEVICE_LOST":19,"ERROR_CODE_DEVICE_RESET_FAILED":20,"ERROR_CODE_IOMMU_MISSING":21,"ERROR_CODE_IRQ_REMAPPING_MISSING":22,"ERROR_CODE_GROUP_NOT_VIABLE":23,"ERROR_CODE_VFIO_MISSING":24,"ERROR_CODE_VFIO_PERMISSION":25,"ERROR_CODE_VF_TOKEN_REQUIRED":26,"ERROR_CODE_MEMLOCK_TOO_LOW":27,"ERROR_CODE_DMA_MAP_FAILED":28,"ERROR_CODE_BAR_NO_SPACE":29,"ERROR_CODE_TOO_MANY_DEVICES":30,"ERROR_CODE_GUEST_CRASHED":31,"ERROR_CODE_REBOOT_LIMIT":32,"ERROR_CODE_TIMEOUT":33,"ERROR_CODE_ABORTED":34,"ERROR_CODE_STATE":35,"ERROR_CODE_INTERNAL":36,"ERROR_CODE_CONTROL_UNAVAILABLE":37,"ERROR_CODE_DEVICE_IN_USE":38,"ERROR_CODE_PORT_UNAVAILABLE":39,"ERROR_CODE_SRIOV_FAILED":60},
} as const satisfies Record<string, EnumSchema>;

const messages: Record<keyof MessageTypes, MessageSchema> = {
  GetVmRequest: new Map([]),
  GetVmResponse: new Map([[1, {"name":"vm","kind":"message","type":"VmInfo","presence":"optional"}]]),
  PauseVmRequest: new Map([]),
  PauseVmResponse: new Map([]),
  ResumeVmRequest: new Map([]),
  ResumeVmResponse: new Map([]),
  PressPowerButtonRequest: new Map([]),
  PressPowerButtonResponse: new Map([]),
  StopVmRequest: new Map([]),
  StopVmResponse: new Map([[1, {"name":"exit","kind":"message","type":"VmExit","presence":"optional"}]]),
  InjectNmiRequest: new Map([]),
  InjectNmiResponse: new Map([]),
  WaitVmRequest: new Map([[1, {"name":"timeoutMs","kind":"uint32","presence":"optional"}]]),
  WaitVmResponse: new Map([[1, {"name":"exit","kind":"message","type":"VmExit","presence":"optional"}]]),
  SubscribeEventsRequest: new Map([[1, {"name":"sinceEventId","kind":"uint64","presence":"optional"}], [2, {"name":"kinds","kind":"enum","type":"VmEventKind","presence":"list"}]]),
  AttachConsoleRequest: new Map([[1, {"name":"start","kind":"message","type":"AttachConsoleStart","presence":"optional","oneof":"input"}], [2, {"name":"data","kind":"bytes","presence":"optional","oneof":"input"}]]),
  AttachConsoleStart: new Map([[1, {"name":"offset","kind":"uint64","presence":"optional"}]]),
  ReadConsoleLogRequest: new Map([[1, {"name":"offset","kind":"uint64","presence":"plain"}], [2, {"name":"follow","kind":"bool","presence":"plain"}]]),
  ConsoleOutput: new Map([[1, {"name":"offset","kind":"uint64","presence":"plain"}], [2, {"name":"data","kind":"bytes","presence":"plain"}], [3, {"name":"droppedBytes","kind":"uint64","presence":"plain"}]]),
  AttachDeviceRequest: new Map([[1, {"name":"devices","kind":"message","type":"DeviceConfig","presence":"list"}]]),
  AttachDeviceResponse: new Map([[1, {"name":"bdfs","kind":"string","presence":"list"}], [2, {"name":"port","kind":"string","presence":"plain"}]]),
  DetachDeviceRequest: new Map([[1, {"name":"bdf","kind":"string","presence":"plain"}], [2, {"name":"timeoutMs","kind":"uint32","presence":"optional"}], [3, {"name":"force","kind":"bool","presence":"plain"}]]),
  DetachDeviceResponse: new Map([[1, {"name":"bdfs","kind":"string","presence":"list"}], [2, {"name":"how","kind":"string","presence":"plain"}]]),
  ConfigPermitRequest: new Map([[1, {"name":"bdf","kind":"string","presence":"plain"}], [2, {"name":"configPermitFile","kind":"string","presence":"optional","oneof":"configPermit"}], [3, {"name":"configPermitLines","kind":"message","type":"GrantLines","presence":"optional","oneof":"configPermit"}], [4, {"name":"force","kind":"bool","presence":"plain"}]]),
  ConfigPermitResponse: new Map([[1, {"name":"grants","kind":"message","type":"ConfigGrant","presence":"list"}]]),
  ConfigGrant: new Map([[1, {"name":"offset","kind":"uint32","presence":"plain"}], [2, {"name":"readBits","kind":"uint32","presence":"plain"}], [3, {"name":"writeBits","kind":"uint32","presence":"plain"}], [4, {"name":"writeOnly","kind":"bool","presence":"plain"}]]),
  VmEvent: new Map([[1, {"name":"id","kind":"uint64","presence":"plain"}], [2, {"name":"time","kind":"message","type":"Timestamp","presence":"optional"}], [10, {"name":"state","kind":"message","type":"StateChanged","presence":"optional","oneof":"event"}], [11, {"name":"reboot","kind":"message","type":"Rebooted","presence":"optional","oneof":"event"}], [12, {"name":"warning","kind":"message","type":"Warning","presence":"optional","oneof":"event"}], [13, {"name":"device","kind":"message","type":"DeviceEvent","presence":"optional","oneof":"event"}], [14, {"name":"exit","kind":"message","type":"Exited","presence":"optional","oneof":"event"}], [15, {"name":"dropped","kind":"message","type":"EventsDropped","presence":"optional","oneof":"event"}], [16, {"name":"deviceAttached","kind":"message","type":"DeviceAttached","presence":"optional","oneof":"event"}], [17, {"name":"deviceDetachRequested","kind":"message","type":"DeviceDetachRequested","presence":"optional","oneof":"event"}], [18, {"name":"deviceDetached","kind":"message","type":"DeviceDetached","presence":"optional","oneof":"event"}]]),
  StateChanged: new Map([[1, {"name":"state","kind":"enum","type":"VmState","presence":"plain"}]]),
  Rebooted: new Map([[1, {"name":"count","kind":"uint64","presence":"plain"}]]),
  Warning: new Map([[1, {"name":"message","kind":"string","presence":"plain"}]]),
  DeviceEvent: new Map([[1, {"name":"label","kind":"string","presence":"plain"}], [2, {"name":"what","kind":"string","presence":"plain"}], [3, {"name":"bdf","kind":"string","presence":"plain"}]]),
  DeviceAttached: new Map([[1, {"name":"bdfs","kind":"string","presence":"list"}], [2, {"name":"port","kind":"string","presence":"plain"}]]),
  DeviceDetachRequested: new Map([[1, {"name":"bdfs","kind":"string","presence":"list"}], [2, {"name":"by","kind":"string","presence":"plain"}]]),
  DeviceDetached: new Map([[1, {"name":"bdfs","kind":"string","presence":"list"}], [2, {"name":"how","kind":"string","presence":"plain"}]]),
  Exited: new Map([[1, {"name":"exit","kind":"message","type":"VmExit","presence":"optional"}]]),
  EventsDropped: new Map([[1, {"name":"count","kind":"uint64","presence":"plain"}]]),
  VmConfig: new Map([[1, {"name":"name","kind":"string","presence":"optional"}], [2, {"name":"kernel","kind":"string","presence":"plain"}], [3, {"name":"initrd","kind":"string","presence":"optional"}], [4, {"name":"cmdline","kind":"string","presence":"optional"}], [5, {"name":"memoryBytes","kind":"uint64","presence":"optional"}], [6, {"name":"cpus","kind":"uint32","presence":"optional"}], [7, {"name":"hugePageBytes","kind":"uint64","presence":"optional"}], [8, {"name":"devices","kind":"message","type":"DeviceConfig","presence":"list"}], [9, {"name":"rebootLimit","kind":"uint64","presence":"optional"}], [10, {"name":"unpackKernel","kind":"bool","presence":"optional"}], [11, {"name":"control","kind":"string","presence":"optional"}], [12, {"name":"channel","kind":"bool","presence":"optional"}], [20, {"name":"hotplugPorts","kind":"uint32","presence":"optional"}], [30, {"name":"iommu","kind":"enum","type":"IommuMode","presence":"optional"}], [31, {"name":"fds","kind":"message","type":"HostFds","presence":"optional"}]]),
  HostFds: new Map([[1, {"name":"kvm","kind":"string","presence":"optional"}], [2, {"name":"container","kind":"string","presence":"optional"}], [3, {"name":"iommufd","kind":"string","presence":"optional"}]]),
  DeviceConfig: new Map([[1, {"name":"bdf","kind":"string","presence":"plain"}], [2, {"name":"configPermitFile","kind":"string","presence":"optional","oneof":"configPermit"}], [3, {"name":"configPermitLines","kind":"message","type":"GrantLines","presence":"optional","oneof":"configPermit"}], [4, {"name":"configPermitForce","kind":"bool","presence":"optional"}], [5, {"name":"wc","kind":"message","type":"WcModes","presence":"optional"}], [20, {"name":"rom","kind":"string","presence":"optional"}], [21, {"name":"ids","kind":"message","type":"PciIds","presence":"optional"}], [22, {"name":"msixRelocation","kind":"string","presence":"optional"}], [23, {"name":"reset","kind":"string","presence":"optional"}], [24, {"name":"p2p","kind":"bool","presence":"optional"}], [25, {"name":"port","kind":"string","presence":"optional"}], [26, {"name":"onError","kind":"string","presence":"optional"}], [30, {"name":"vfToken","kind":"string","presence":"optional"}], [31, {"name":"deviceFd","kind":"string","presence":"optional"}], [32, {"name":"groupFd","kind":"string","presence":"optional"}]]),
  PciIds: new Map([[1, {"name":"vendor","kind":"uint32","presence":"optional"}], [2, {"name":"device","kind":"uint32","presence":"optional"}], [3, {"name":"subsystemVendor","kind":"uint32","presence":"optional"}], [4, {"name":"subsystemDevice","kind":"uint32","presence":"optional"}], [5, {"name":"revision","kind":"uint32","presence":"optional"}]]),
  GrantLines: new Map([[1, {"name":"lines","kind":"string","presence":"list"}]]),
  WcModes: new Map([[1, {"name":"default","kind":"enum","type":"WcMode","presence":"plain"}], [2, {"name":"bars","kind":"message","type":"BarWcMode","presence":"list"}]]),
  BarWcMode: new Map([[1, {"name":"bar","kind":"uint32","presence":"plain"}], [2, {"name":"mode","kind":"enum","type":"WcMode","presence":"plain"}]]),
  VmInfo: new Map([[1, {"name":"state","kind":"enum","type":"VmState","presence":"plain"}], [2, {"name":"pid","kind":"uint32","presence":"plain"}], [3, {"name":"report","kind":"message","type":"VmReport","presence":"optional"}], [4, {"name":"exit","kind":"message","type":"VmExit","presence":"optional"}], [5, {"name":"config","kind":"message","type":"VmConfig","presence":"optional"}]]),
  VmReport: new Map([[1, {"name":"name","kind":"string","presence":"plain"}], [2, {"name":"cpus","kind":"uint32","presence":"plain"}], [3, {"name":"memoryBytes","kind":"uint64","presence":"plain"}], [4, {"name":"kernel","kind":"string","presence":"plain"}], [5, {"name":"devices","kind":"message","type":"FunctionReport","presence":"list"}], [6, {"name":"exits","kind":"message","type":"ExitCounters","presence":"optional"}], [7, {"name":"reboots","kind":"uint64","presence":"plain"}], [8, {"name":"iommu","kind":"message","type":"IommuReport","presence":"optional"}]]),
  IommuReport: new Map([[1, {"name":"backend","kind":"enum","type":"IommuMode","presence":"plain"}], [2, {"name":"why","kind":"string","presence":"plain"}]]),
  VmExit: new Map([[1, {"name":"shutdown","kind":"message","type":"VmExitShutdown","presence":"optional","oneof":"reason"}], [2, {"name":"rebootLimit","kind":"message","type":"VmExitRebootLimit","presence":"optional","oneof":"reason"}], [3, {"name":"debugExit","kind":"message","type":"VmExitDebugExit","presence":"optional","oneof":"reason"}], [4, {"name":"crash","kind":"message","type":"VmExitCrash","presence":"optional","oneof":"reason"}], [5, {"name":"stopped","kind":"message","type":"VmExitStopped","presence":"optional","oneof":"reason"}]]),
  VmExitShutdown: new Map([]),
  VmExitRebootLimit: new Map([[1, {"name":"reboots","kind":"uint64","presence":"plain"}]]),
  VmExitDebugExit: new Map([[1, {"name":"value","kind":"uint64","presence":"plain"}]]),
  VmExitCrash: new Map([[1, {"name":"detail","kind":"string","presence":"plain"}]]),
  VmExitStopped: new Map([]),
  ExitCounters: new Map([[1, {"name":"port","kind":"uint64","presence":"plain"}], [2, {"name":"console","kind":"uint64","presence":"plain"}], [3, {"name":"mmio","kind":"uint64","presence":"plain"}], [4, {"name":"config","kind":"uint64","presence":"plain"}], [5, {"name":"kick","kind":"uint64","presence":"plain"}], [6, {"name":"other","kind":"uint64","presence":"plain"}], [7, {"name":"total","kind":"uint64","presence":"plain"}]]),
  FunctionReport: new Map([[1, {"name":"label","kind":"string","presence":"plain"}], [2, {"name":"address","kind":"message","type":"GuestBdf","presence":"optional"}], [3, {"name":"bars","kind":"message","type":"BarReport","presence":"list"}], [4, {"name":"interrupts","kind":"message","type":"InterruptReport","presence":"optional"}], [5, {"name":"resets","kind":"message","type":"ResetReport","presence":"list"}], [20, {"name":"rom","kind":"message","type":"RomReport","presence":"optional"}], [21, {"name":"ids","kind":"message","type":"PciIds","presence":"optional"}], [22, {"name":"msixRelocation","kind":"string","presence":"optional"}], [23, {"name":"trappedPages","kind":"message","type":"TrappedPage","presence":"list"}]]),
  TrappedPage: new Map([[1, {"name":"bar","kind":"uint32","presence":"plain"}], [2, {"name":"offset","kind":"uint64","presence":"plain"}], [3, {"name":"why","kind":"string","presence":"plain"}], [4, {"name":"accesses","kind":"uint64","presence":"plain"}], [5, {"name":"isHot","kind":"bool","presence":"plain"}]]),
  RomReport: new Map([[1, {"name":"source","kind":"string","presence":"plain"}], [2, {"name":"sizeBytes","kind":"uint64","presence":"plain"}], [3, {"name":"offered","kind":"bool","presence":"plain"}], [4, {"name":"images","kind":"string","presence":"list"}], [5, {"name":"faults","kind":"string","presence":"list"}]]),
  GuestBdf: new Map([[1, {"name":"bus","kind":"uint32","presence":"plain"}], [2, {"name":"device","kind":"uint32","presence":"plain"}], [3, {"name":"function","kind":"uint32","presence":"plain"}]]),
  BarReport: new Map([[1, {"name":"index","kind":"uint32","presence":"plain"}], [2, {"name":"sizeBytes","kind":"uint64","presence":"plain"}], [3, {"name":"kind","kind":"enum","type":"BarKind","presence":"plain"}], [4, {"name":"is64","kind":"bool","presence":"plain"}], [5, {"name":"prefetchable","kind":"bool","presence":"plain"}], [6, {"name":"gpa","kind":"uint64","presence":"optional"}], [7, {"name":"areas","kind":"message","type":"BarArea","presence":"list"}], [8, {"name":"wc","kind":"message","type":"WriteCombining","presence":"optional"}], [20, {"name":"p2p","kind":"string","presence":"optional"}]]),
  WriteCombining: new Map([[1, {"name":"mode","kind":"enum","type":"WcMode","presence":"plain"}], [2, {"name":"guestWc","kind":"string","presence":"plain"}], [3, {"name":"areas","kind":"message","type":"WcArea","presence":"list"}], [4, {"name":"guestWcAdvertised","kind":"bool","presence":"plain"}], [5, {"name":"hostType","kind":"string","presence":"plain"}], [6, {"name":"hostWc","kind":"string","presence":"optional"}], [7, {"name":"evidence","kind":"string","presence":"list"}], [8, {"name":"largestPageBytes","kind":"uint64","presence":"optional"}]]),
  WcArea: new Map([[1, {"name":"offset","kind":"uint64","presence":"plain"}], [2, {"name":"sizeBytes","kind":"uint64","presence":"plain"}], [3, {"name":"guestWc","kind":"bool","presence":"plain"}], [4, {"name":"why","kind":"string","presence":"optional"}]]),
  BarArea: new Map([[1, {"name":"offset","kind":"uint64","presence":"plain"}], [2, {"name":"sizeBytes","kind":"uint64","presence":"plain"}], [3, {"name":"mode","kind":"enum","type":"BarAreaMode","presence":"plain"}], [4, {"name":"why","kind":"string","presence":"optional"}]]),
  InterruptReport: new Map([[1, {"name":"mode","kind":"enum","type":"InterruptMode","presence":"plain"}], [2, {"name":"available","kind":"uint32","presence":"plain"}], [3, {"name":"routed","kind":"uint32","presence":"plain"}]]),
  ResetReport: new Map([[1, {"name":"when","kind":"enum","type":"ResetOccasion","presence":"plain"}], [2, {"name":"method","kind":"string","presence":"plain"}], [3, {"name":"ok","kind":"bool","presence":"plain"}], [20, {"name":"faults","kind":"string","presence":"list"}]]),
  Error: new Map([[1, {"name":"code","kind":"enum","type":"ErrorCode","presence":"plain"}], [2, {"name":"message","kind":"string","presence":"plain"}], [3, {"name":"errno","kind":"int32","presence":"optional"}], [4, {"name":"syscall","kind":"string","presence":"optional"}], [5, {"name":"path","kind":"string","presence":"optional"}], [6, {"name":"bdf","kind":"string","presence":"optional"}], [7, {"name":"hint","kind":"string","presence":"optional"}], [8, {"name":"issues","kind":"message","type":"ConfigIssue","presence":"list"}]]),
  ConfigIssue: new Map([[1, {"name":"path","kind":"string","presence":"plain"}], [2, {"name":"message","kind":"string","presence":"plain"}]]),
  Timestamp: new Map([[1, {"name":"seconds","kind":"int64","presence":"plain"}], [2, {"name":"nanos","kind":"int32","presence":"plain"}]]),
  Any: new Map([[1, {"name":"typeUrl","kind":"string","presence":"plain"}], [2, {"name":"value","kind":"bytes","presence":"plain"}]]),
  Status: new Map([[1, {"name":"code","kind":"int32","presence":"plain"}], [2, {"name":"message","kind":"string","presence":"plain"}], [3, {"name":"details","kind":"message","type":"Any","presence":"list"}]]),
};

export const SCHEMA: Schema & { readonly enums: typeof enums } = { messages, enums };

export const VmService = {
  /** State, configuration, devices with their BARs, vectors and resets, exits to user space. */
  getVm: {"path":"/causeway.v1.VmService/GetVm","request":"GetVmRequest","response":"GetVmResponse","requestStream":false,"responseStream":false},
  /** Answers when no vCPU runs any more. */
  pauseVm: {"path":"/causeway.v1.VmService/PauseVm","request":"PauseVmRequest","response":"PauseVmResponse","requestStream":false,"responseStream":false},
  /** Lets a paused VM go on. */
  resumeVm: {"path":"/causeway.v1.VmService/ResumeVm","request":"ResumeVmRequest","response":"ResumeVmResponse","requestStream":false,"responseStream":false},
  /** Presses the power button: the guest may shut down in order. */
  pressPowerButton: {"path":"/causeway.v1.VmService/PressPowerButton","request":"PressPowerButtonRequest","response":"PressPowerButtonResponse","requestStream":false,"responseStream":false},
  /** Ends the run at once and answers when it has ended. */
  stopVm: {"path":"/causeway.v1.VmService/StopVm","request":"StopVmRequest","response":"StopVmResponse","requestStream":false,"responseStream":false},
  /** Interrupts every vCPU with an NMI. */
  injectNmi: {"path":"/causeway.v1.VmService/InjectNmi","request":"InjectNmiRequest","response":"InjectNmiResponse","requestStream":false,"responseStream":false},
  /** Answers when the run ends, however it ends. */
  waitVm: {"path":"/causeway.v1.VmService/WaitVm","request":"WaitVmRequest","response":"WaitVmResponse","requestStream":false,"responseStream":false},
  /** Events kept and to come, in order. Ends with the VM's process. */
  subscribeEvents: {"path":"/causeway.v1.VmService/SubscribeEvents","request":"SubscribeEventsRequest","response":"VmEvent","requestStream":false,"responseStream":true},
  /** The guest's first serial port, both ways. Output goes on when the client has no more to type; it ends with the run. */
  attachConsole: {"path":"/causeway.v1.VmService/AttachConsole","request":"AttachConsoleRequest","response":"ConsoleOutput","requestStream":true,"responseStream":true},
  /** What the guest has written so far, as far as it is kept (the last MiB). */
  readConsoleLog: {"path":"/causeway.v1.VmService/ReadConsoleLog","request":"ReadConsoleLogRequest","response":"ConsoleOutput","requestStream":false,"responseStream":true},
  /** Plugs a device into a spare root port, also while the guest runs. */
  attachDevice: {"path":"/causeway.v1.VmService/AttachDevice","request":"AttachDeviceRequest","response":"AttachDeviceResponse","requestStream":false,"responseStream":false},
  /** Has the guest let go of a device and gives it back; answers when that is done. */
  detachDevice: {"path":"/causeway.v1.VmService/DetachDevice","request":"DetachDeviceRequest","response":"DetachDeviceResponse","requestStream":false,"responseStream":false},
  /** Opens bits of a device's config space to the guest, from its next access on. */
  configPermit: {"path":"/causeway.v1.VmService/ConfigPermit","request":"ConfigPermitRequest","response":"ConfigPermitResponse","requestStream":false,"responseStream":false},
} as const satisfies Record<string, MethodSchema>;
