/**
 * Runs inside the lab: a message for a processor beyond 255, to a KVM that was told of its x2APIC format and to one that was
 * not. Usage: node x2apic.js
 */
import { loadNative } from '../../native/index.ts';
import type { Native } from '../../native/types.ts';
import { IrqRouter } from '../../vmm/irq/irq-router.ts';
import { openKvm } from '../../vmm/kvm.ts';

export interface MessageOutcome {
  readonly isDeliverable: boolean;
  /** Processors that took the message. */
  readonly delivered: number;
}

export interface X2apicResult {
  readonly hasFormat: boolean;
  readonly withFormat: MessageOutcome;
  readonly withoutFormat: MessageOutcome;
}

const APIC_ID = 300;
/** Local APIC on, in x2APIC mode; then enabled by software (SDM vol. 3, 11.12.1 and 11.9). */
const APIC_BASE = { index: 0x1b, value: 0xfee0_0c00n };
const SPURIOUS_VECTOR = { index: 0x80f, value: 0x1ffn };
/** Bits 7:0 of the destination in bits 19:12, 14:8 in bits 11:5. */
const MESSAGE = { addressLo: 0xfee0_0000 + ((APIC_ID & 0xff) << 12) + ((APIC_ID >> 8) << 5), addressHi: 0, data: 0x41 };

function send(native: Native, x2apicFormat: boolean): MessageOutcome {
  using kvm = openKvm(native);
  const vm = native.kvmCreateVm(kvm.fd);
  native.vmCreateIrqchip(vm);
  const router = new IrqRouter(native, vm, x2apicFormat);
  const vcpu = native.vmCreateVcpu(vm, APIC_ID);
  native.vcpuSetCpuid(vcpu, kvm.cpuid);
  native.vcpuSetMsrs(vcpu, [APIC_BASE]);
  native.vcpuSetMsrs(vcpu, [SPURIOUS_VECTOR]);
  const outcome = { isDeliverable: router.isDeliverable(MESSAGE), delivered: router.signal(MESSAGE) };
  native.close(vcpu);
  native.close(vm);
  return outcome;
}

const native = loadNative();
using kvm = openKvm(native);
const result: X2apicResult = {
  hasFormat: kvm.x2apicFormat,
  withFormat: send(native, true),
  withoutFormat: send(native, false),
};
process.stdout.write(`${JSON.stringify(result)}\n`);
