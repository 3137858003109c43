/**
 * Causeway: a KVM virtual machine monitor in TypeScript that hands PCI devices of the host to a guest.
 * @module
 */

export { CausewayError, type ErrorCode, EXIT_CODE, isCausewayError } from './vmm/base/errors.ts';
export { describeExits, formatSummary } from './vmm/cli/summary.ts';
export { defineVm } from './vmm/config/define-vm.ts';
export type { DeviceConfig, FdRef, HostFds, IommuMode, Size, VmConfig } from './vmm/config/model.ts';
export { type CreateVmOptions, createVm } from './vmm/control/create-vm.ts';
export type {
  AttachedDevice,
  DetachedDevice,
  DetachOptions,
  ExitCounters,
  IommuReport,
  SerialConsole,
  VcpuRegisters,
  Vm,
  VmEvent,
  VmExit,
  VmReport,
  VmState,
} from './vmm/control/vm.ts';
export type { BarReport, FunctionReport } from './vmm/pci/function.ts';
