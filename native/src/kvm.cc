// /dev/kvm and the VM: interrupt controller, memory slots, routing, irqfds, ioeventfds.
#include <sys/ioctl.h>

#include "common.h"
#include "exposed.h"
#include "kernel.h"

// Since Linux 6.6 the VFIO device takes device files as well as groups and has names for both; the
// values are the same.
#ifndef KVM_DEV_VFIO_FILE
#define KVM_DEV_VFIO_FILE 1
#define KVM_DEV_VFIO_FILE_ADD 1
#define KVM_DEV_VFIO_FILE_DEL 2
#endif

namespace causeway {
namespace {

Napi::Value kvmApiVersion(const Napi::CallbackInfo& info) {
  return number(info.Env(), check(info.Env(), ioctl(toInt(info[0], "kvm"), KVM_GET_API_VERSION, 0),
                                  "KVM_GET_API_VERSION"));
}

Napi::Value kvmCheckExtension(const Napi::CallbackInfo& info) {
  const int fd = toInt(info[0], "fd");
  const unsigned long capability = toU32(info[1], "capability");
  return number(info.Env(), check(info.Env(), ioctl(fd, KVM_CHECK_EXTENSION, capability),
                                  "KVM_CHECK_EXTENSION"));
}

Napi::Value kvmCreateVm(const Napi::CallbackInfo& info) {
  const int kvm = toInt(info[0], "kvm");
  return number(info.Env(),
                closeOnExec(info.Env(), ioctl(kvm, KVM_CREATE_VM, 0UL), "KVM_CREATE_VM"));
}

Napi::Value vmSetTssAddress(const Napi::CallbackInfo& info) {
  const unsigned long gpa = toU64(info[1], "gpa");
  check(info.Env(), ioctl(toInt(info[0], "vm"), KVM_SET_TSS_ADDR, gpa), "KVM_SET_TSS_ADDR");
  return info.Env().Undefined();
}

Napi::Value vmSetIdentityMapAddress(const Napi::CallbackInfo& info) {
  __u64 gpa = toU64(info[1], "gpa");
  check(info.Env(), ioctl(toInt(info[0], "vm"), KVM_SET_IDENTITY_MAP_ADDR, &gpa),
        "KVM_SET_IDENTITY_MAP_ADDR");
  return info.Env().Undefined();
}

Napi::Value vmCreateIrqchip(const Napi::CallbackInfo& info) {
  check(info.Env(), ioctl(toInt(info[0], "vm"), KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
  return info.Env().Undefined();
}

Napi::Value vmCreatePit(const Napi::CallbackInfo& info) {
  kvm_pit_config config{};
  config.flags = KVM_PIT_SPEAKER_DUMMY;
  check(info.Env(), ioctl(toInt(info[0], "vm"), KVM_CREATE_PIT2, &config), "KVM_CREATE_PIT2");
  return info.Env().Undefined();
}

Napi::Value vmEnableCap(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  kvm_enable_cap request{};
  request.cap = toU32(info[1], "capability");
  const Napi::Array args = toArray(info[2], "args");
  if (args.Length() > 4) throwErrno(env, "KVM_ENABLE_CAP", EINVAL, {}, "at most 4 arguments");
  for (uint32_t i = 0; i < args.Length(); i++) request.args[i] = toU64(args.Get(i), "args");
  check(env, ioctl(toInt(info[0], "vm"), KVM_ENABLE_CAP, &request), "KVM_ENABLE_CAP");
  return env.Undefined();
}

Napi::Value vmSetMemorySlot(const Napi::CallbackInfo& info) {
  kvm_userspace_memory_region region{};
  region.slot = toU32(info[1], "slot");
  region.guest_phys_addr = toU64(info[2], "gpa");
  region.memory_size = toU64(info[3], "sizeBytes");
  region.userspace_addr = toU64(info[4], "hva");
  region.flags = toFlag(info[5], "readonly") ? KVM_MEM_READONLY : 0;
  check(info.Env(), ioctl(toInt(info[0], "vm"), KVM_SET_USER_MEMORY_REGION, &region),
        "KVM_SET_USER_MEMORY_REGION");
  return info.Env().Undefined();
}

// ---- interrupts -------------------------------------------------------------------------------

void packRoute(const Napi::Object& source, kvm_irq_routing_entry& entry) {
  entry.gsi = toU32(source.Get("gsi"), "gsi");
  const std::string kind = toText(source.Get("kind"), "kind");
  if (kind == "irqchip") {
    entry.type = KVM_IRQ_ROUTING_IRQCHIP;
    entry.u.irqchip.irqchip = toU32(source.Get("chip"), "chip");
    entry.u.irqchip.pin = toU32(source.Get("pin"), "pin");
  } else if (kind == "msi") {
    entry.type = KVM_IRQ_ROUTING_MSI;
    entry.u.msi.address_lo = toU32(source.Get("addressLo"), "addressLo");
    entry.u.msi.address_hi = toU32(source.Get("addressHi"), "addressHi");
    entry.u.msi.data = toU32(source.Get("data"), "data");
  } else {
    throw Napi::TypeError::New(source.Env(), "kind: expected 'irqchip' or 'msi'");
  }
}

Napi::Value vmSetGsiRouting(const Napi::CallbackInfo& info) {
  const Napi::Array routes = toArray(info[1], "routes");
  const uint32_t count = routes.Length();
  Tailed<kvm_irq_routing> table(count * sizeof(kvm_irq_routing_entry));
  table->nr = count;
  for (uint32_t i = 0; i < count; i++)
    packRoute(toObject(routes.Get(i), "route"), table->entries[i]);
  check(info.Env(), ioctl(toInt(info[0], "vm"), KVM_SET_GSI_ROUTING, table.get()),
        "KVM_SET_GSI_ROUTING");
  return info.Env().Undefined();
}

Napi::Value setIrqfd(const Napi::CallbackInfo& info, uint32_t flags) {
  const Napi::Object source = toObject(info[1], "irqfd");
  kvm_irqfd request{};
  request.fd = static_cast<__u32>(toInt(source.Get("fd"), "fd"));
  request.gsi = toU32(source.Get("gsi"), "gsi");
  request.flags = flags;
  const Napi::Value resample = source.Get("resampleFd");
  // A deassign matches fd and gsi only; KVM refuses other flags with it.
  if (!resample.IsUndefined() && flags == 0) {
    request.flags |= KVM_IRQFD_FLAG_RESAMPLE;
    request.resamplefd = static_cast<__u32>(toInt(resample, "resampleFd"));
  }
  check(info.Env(), ioctl(toInt(info[0], "vm"), KVM_IRQFD, &request), "KVM_IRQFD");
  return info.Env().Undefined();
}

Napi::Value vmAssignIrqfd(const Napi::CallbackInfo& info) { return setIrqfd(info, 0); }
Napi::Value vmDeassignIrqfd(const Napi::CallbackInfo& info) {
  return setIrqfd(info, KVM_IRQFD_FLAG_DEASSIGN);
}

Napi::Value setIoeventfd(const Napi::CallbackInfo& info, uint32_t flags) {
  const Napi::Object source = toObject(info[1], "ioeventfd");
  kvm_ioeventfd request{};
  request.flags = flags;
  request.fd = toInt(source.Get("fd"), "fd");
  request.addr = toU64(source.Get("address"), "address");
  request.len = toU32(source.Get("width"), "width");
  const std::string space = toText(source.Get("space"), "space");
  if (space == "port") {
    request.flags |= KVM_IOEVENTFD_FLAG_PIO;
  } else if (space != "memory") {
    throw Napi::TypeError::New(info.Env(), "space: expected 'port' or 'memory'");
  }
  const Napi::Value datamatch = source.Get("datamatch");
  if (!datamatch.IsUndefined()) {
    request.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
    request.datamatch = toBits64(datamatch, "datamatch");
  }
  check(info.Env(), ioctl(toInt(info[0], "vm"), KVM_IOEVENTFD, &request), "KVM_IOEVENTFD");
  return info.Env().Undefined();
}

Napi::Value vmAssignIoeventfd(const Napi::CallbackInfo& info) { return setIoeventfd(info, 0); }
Napi::Value vmDeassignIoeventfd(const Napi::CallbackInfo& info) {
  return setIoeventfd(info, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

Napi::Value vmIrqLine(const Napi::CallbackInfo& info) {
  kvm_irq_level request{};
  request.irq = toU32(info[1], "gsi");
  request.level = toFlag(info[2], "level") ? 1 : 0;
  check(info.Env(), ioctl(toInt(info[0], "vm"), KVM_IRQ_LINE, &request), "KVM_IRQ_LINE");
  return info.Env().Undefined();
}

Napi::Value vmSignalMsi(const Napi::CallbackInfo& info) {
  kvm_msi request{};
  request.address_lo = toU32(info[1], "addressLo");
  request.address_hi = toU32(info[2], "addressHi");
  request.data = toU32(info[3], "data");
  return number(info.Env(), check(info.Env(), ioctl(toInt(info[0], "vm"), KVM_SIGNAL_MSI, &request),
                                  "KVM_SIGNAL_MSI"));
}

// ---- devices and vCPUs ------------------------------------------------------------------------

Napi::Value vmCreateDevice(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (toText(info[1], "type") != "vfio") throw Napi::TypeError::New(env, "type: expected 'vfio'");
  kvm_create_device request{};
  request.type = KVM_DEV_TYPE_VFIO;
  check(env, ioctl(toInt(info[0], "vm"), KVM_CREATE_DEVICE, &request), "KVM_CREATE_DEVICE");
  return number(env, closeOnExec(env, static_cast<int>(request.fd), "KVM_CREATE_DEVICE"));
}

Napi::Value changeVfioFile(const Napi::CallbackInfo& info, uint64_t attribute, const char* name) {
  int32_t file = toInt(info[1], "file");
  kvm_device_attr request{};
  request.group = KVM_DEV_VFIO_FILE;
  request.attr = attribute;
  request.addr = reinterpret_cast<uintptr_t>(&file);
  check(info.Env(), ioctl(toInt(info[0], "device"), KVM_SET_DEVICE_ATTR, &request), name);
  return info.Env().Undefined();
}

Napi::Value kvmVfioAddFile(const Napi::CallbackInfo& info) {
  return changeVfioFile(info, KVM_DEV_VFIO_FILE_ADD, "KVM_DEV_VFIO_FILE_ADD");
}

Napi::Value kvmVfioDeleteFile(const Napi::CallbackInfo& info) {
  return changeVfioFile(info, KVM_DEV_VFIO_FILE_DEL, "KVM_DEV_VFIO_FILE_DEL");
}

Napi::Value vmCreateVcpu(const Napi::CallbackInfo& info) {
  const unsigned long index = toU32(info[1], "index");
  const int vm = toInt(info[0], "vm");
  return number(info.Env(),
                closeOnExec(info.Env(), ioctl(vm, KVM_CREATE_VCPU, index), "KVM_CREATE_VCPU"));
}

}  // namespace

void exposeKvm(Napi::Object exports) {
  expose<kvmApiVersion>(exports, "kvmApiVersion");
  expose<kvmCheckExtension>(exports, "kvmCheckExtension");
  expose<kvmCreateVm>(exports, "kvmCreateVm");
  expose<vmSetTssAddress>(exports, "vmSetTssAddress");
  expose<vmSetIdentityMapAddress>(exports, "vmSetIdentityMapAddress");
  expose<vmCreateIrqchip>(exports, "vmCreateIrqchip");
  expose<vmCreatePit>(exports, "vmCreatePit");
  expose<vmEnableCap>(exports, "vmEnableCap");
  expose<vmSetMemorySlot>(exports, "vmSetMemorySlot");
  expose<vmSetGsiRouting>(exports, "vmSetGsiRouting");
  expose<vmAssignIrqfd>(exports, "vmAssignIrqfd");
  expose<vmDeassignIrqfd>(exports, "vmDeassignIrqfd");
  expose<vmAssignIoeventfd>(exports, "vmAssignIoeventfd");
  expose<vmDeassignIoeventfd>(exports, "vmDeassignIoeventfd");
  expose<vmIrqLine>(exports, "vmIrqLine");
  expose<vmSignalMsi>(exports, "vmSignalMsi");
  expose<vmCreateDevice>(exports, "vmCreateDevice");
  expose<kvmVfioAddFile>(exports, "kvmVfioAddFile");
  expose<kvmVfioDeleteFile>(exports, "kvmVfioDeleteFile");
  expose<vmCreateVcpu>(exports, "vmCreateVcpu");
}

}  // namespace causeway
