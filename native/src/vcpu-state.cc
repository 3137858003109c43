// Registers, CPUID and MSRs of a vCPU.
#include <sys/ioctl.h>

#include <cstdio>

#include "common.h"
#include "exposed.h"
#include "kernel.h"

namespace causeway {
namespace {

struct Register64 {
  const char* name;
  __u64 kvm_regs::* field;
};
constexpr Register64 kGeneral[] = {
    {"rax", &kvm_regs::rax}, {"rbx", &kvm_regs::rbx}, {"rcx", &kvm_regs::rcx},
    {"rdx", &kvm_regs::rdx}, {"rsi", &kvm_regs::rsi}, {"rdi", &kvm_regs::rdi},
    {"rsp", &kvm_regs::rsp}, {"rbp", &kvm_regs::rbp}, {"r8", &kvm_regs::r8},
    {"r9", &kvm_regs::r9},   {"r10", &kvm_regs::r10}, {"r11", &kvm_regs::r11},
    {"r12", &kvm_regs::r12}, {"r13", &kvm_regs::r13}, {"r14", &kvm_regs::r14},
    {"r15", &kvm_regs::r15}, {"rip", &kvm_regs::rip}, {"rflags", &kvm_regs::rflags},
};

struct SegmentField {
  const char* name;
  kvm_segment kvm_sregs::* field;
};
constexpr SegmentField kSegments[] = {
    {"cs", &kvm_sregs::cs}, {"ds", &kvm_sregs::ds},   {"es", &kvm_sregs::es},
    {"fs", &kvm_sregs::fs}, {"gs", &kvm_sregs::gs},   {"ss", &kvm_sregs::ss},
    {"tr", &kvm_sregs::tr}, {"ldt", &kvm_sregs::ldt},
};

struct AttributeField {
  const char* name;
  __u8 kvm_segment::* field;
};
constexpr AttributeField kAttributes[] = {
    {"type", &kvm_segment::type},
    {"present", &kvm_segment::present},
    {"dpl", &kvm_segment::dpl},
    {"db", &kvm_segment::db},
    {"s", &kvm_segment::s},
    {"l", &kvm_segment::l},
    {"g", &kvm_segment::g},
    {"avl", &kvm_segment::avl},
    {"unusable", &kvm_segment::unusable},
};

struct TableField {
  const char* name;
  kvm_dtable kvm_sregs::* field;
};
constexpr TableField kTables[] = {{"gdt", &kvm_sregs::gdt}, {"idt", &kvm_sregs::idt}};

struct ControlField {
  const char* name;
  __u64 kvm_sregs::* field;
};
constexpr ControlField kControls[] = {
    {"cr0", &kvm_sregs::cr0},
    {"cr2", &kvm_sregs::cr2},
    {"cr3", &kvm_sregs::cr3},
    {"cr4", &kvm_sregs::cr4},
    {"cr8", &kvm_sregs::cr8},
    {"efer", &kvm_sregs::efer},
    {"apicBase", &kvm_sregs::apic_base},
};

Napi::Value vcpuGetRegs(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  kvm_regs registers{};
  check(env, ioctl(toInt(info[0], "vcpu"), KVM_GET_REGS, &registers), "KVM_GET_REGS");
  Napi::Object result = Napi::Object::New(env);
  for (const auto& [name, field] : kGeneral) result.Set(name, bits64(env, registers.*field));
  return result;
}

Napi::Value vcpuSetRegs(const Napi::CallbackInfo& info) {
  const Napi::Object source = toObject(info[1], "registers");
  kvm_regs registers{};
  for (const auto& [name, field] : kGeneral) registers.*field = toBits64(source.Get(name), name);
  check(info.Env(), ioctl(toInt(info[0], "vcpu"), KVM_SET_REGS, &registers), "KVM_SET_REGS");
  return info.Env().Undefined();
}

Napi::Value vcpuGetSregs(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  kvm_sregs registers{};
  check(env, ioctl(toInt(info[0], "vcpu"), KVM_GET_SREGS, &registers), "KVM_GET_SREGS");
  Napi::Object result = Napi::Object::New(env);
  for (const auto& [name, field] : kSegments) {
    const kvm_segment& segment = registers.*field;
    Napi::Object object = Napi::Object::New(env);
    object.Set("base", bits64(env, segment.base));
    object.Set("limit", number(env, segment.limit));
    object.Set("selector", number(env, segment.selector));
    for (const auto& attribute : kAttributes)
      object.Set(attribute.name, number(env, segment.*attribute.field));
    result.Set(name, object);
  }
  for (const auto& [name, field] : kTables) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("base", bits64(env, (registers.*field).base));
    object.Set("limit", number(env, (registers.*field).limit));
    result.Set(name, object);
  }
  for (const auto& [name, field] : kControls) result.Set(name, bits64(env, registers.*field));
  return result;
}

Napi::Value vcpuSetSregs(const Napi::CallbackInfo& info) {
  const Napi::Object source = toObject(info[1], "registers");
  kvm_sregs registers{};  // an empty interrupt_bitmap: nothing pending
  for (const auto& [name, field] : kSegments) {
    const Napi::Object object = toObject(source.Get(name), name);
    kvm_segment& segment = registers.*field;
    segment.base = toBits64(object.Get("base"), "segment base");
    segment.limit = toU32(object.Get("limit"), "segment limit");
    segment.selector = static_cast<__u16>(toU32(object.Get("selector"), "segment selector"));
    for (const auto& attribute : kAttributes) {
      segment.*attribute.field =
          static_cast<__u8>(toU32(object.Get(attribute.name), attribute.name));
    }
  }
  for (const auto& [name, field] : kTables) {
    const Napi::Object object = toObject(source.Get(name), name);
    (registers.*field).base = toBits64(object.Get("base"), "table base");
    (registers.*field).limit = static_cast<__u16>(toU32(object.Get("limit"), "table limit"));
  }
  for (const auto& [name, field] : kControls) registers.*field = toBits64(source.Get(name), name);
  check(info.Env(), ioctl(toInt(info[0], "vcpu"), KVM_SET_SREGS, &registers), "KVM_SET_SREGS");
  return info.Env().Undefined();
}

// ---- CPUID ------------------------------------------------------------------------------------

Napi::Value kvmGetSupportedCpuid(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int kvm = toInt(info[0], "kvm");
  for (uint32_t room = 128;; room *= 2) {
    Tailed<kvm_cpuid2> table(room * sizeof(kvm_cpuid_entry2));
    table->nent = room;
    if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, table.get()) < 0) {
      if (errno == E2BIG && room < 4096) continue;
      throwErrno(env, "KVM_GET_SUPPORTED_CPUID", errno);
    }
    Napi::Array result = Napi::Array::New(env, table->nent);
    for (uint32_t i = 0; i < table->nent; i++) {
      const kvm_cpuid_entry2& entry = table->entries[i];
      Napi::Object object = Napi::Object::New(env);
      object.Set("function", number(env, entry.function));
      object.Set("index", number(env, entry.index));
      object.Set("flags", number(env, entry.flags));
      object.Set("eax", number(env, entry.eax));
      object.Set("ebx", number(env, entry.ebx));
      object.Set("ecx", number(env, entry.ecx));
      object.Set("edx", number(env, entry.edx));
      result.Set(i, object);
    }
    return result;
  }
}

Napi::Value vcpuSetCpuid(const Napi::CallbackInfo& info) {
  const Napi::Array source = toArray(info[1], "entries");
  const uint32_t count = source.Length();
  Tailed<kvm_cpuid2> table(count * sizeof(kvm_cpuid_entry2));
  table->nent = count;
  for (uint32_t i = 0; i < count; i++) {
    const Napi::Object object = toObject(source.Get(i), "CPUID entry");
    kvm_cpuid_entry2& entry = table->entries[i];
    entry.function = toU32(object.Get("function"), "function");
    entry.index = toU32(object.Get("index"), "index");
    entry.flags = toU32(object.Get("flags"), "flags");
    entry.eax = toU32(object.Get("eax"), "eax");
    entry.ebx = toU32(object.Get("ebx"), "ebx");
    entry.ecx = toU32(object.Get("ecx"), "ecx");
    entry.edx = toU32(object.Get("edx"), "edx");
  }
  check(info.Env(), ioctl(toInt(info[0], "vcpu"), KVM_SET_CPUID2, table.get()), "KVM_SET_CPUID2");
  return info.Env().Undefined();
}

// ---- MSRs -------------------------------------------------------------------------------------

// The kernel stops at the first MSR that it does not take and returns how many went well.
void checkMsrs(Napi::Env env, int done, kvm_msrs* msrs, const char* syscall) {
  check(env, done, syscall);
  if (static_cast<uint32_t>(done) == msrs->nmsrs) return;
  char refused[32];
  std::snprintf(refused, sizeof refused, "MSR 0x%x", msrs->entries[done].index);
  throwErrno(env, syscall, EINVAL, {}, refused);
}

Napi::Value vcpuGetMsrs(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Array indices = toArray(info[1], "indices");
  const uint32_t count = indices.Length();
  Tailed<kvm_msrs> msrs(count * sizeof(kvm_msr_entry));
  msrs->nmsrs = count;
  for (uint32_t i = 0; i < count; i++) msrs->entries[i].index = toU32(indices.Get(i), "MSR index");
  checkMsrs(env, ioctl(toInt(info[0], "vcpu"), KVM_GET_MSRS, msrs.get()), msrs.get(),
            "KVM_GET_MSRS");
  Napi::Array result = Napi::Array::New(env, count);
  for (uint32_t i = 0; i < count; i++) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("index", number(env, msrs->entries[i].index));
    object.Set("value", bits64(env, msrs->entries[i].data));
    result.Set(i, object);
  }
  return result;
}

Napi::Value vcpuSetMsrs(const Napi::CallbackInfo& info) {
  const Napi::Array source = toArray(info[1], "msrs");
  const uint32_t count = source.Length();
  Tailed<kvm_msrs> msrs(count * sizeof(kvm_msr_entry));
  msrs->nmsrs = count;
  for (uint32_t i = 0; i < count; i++) {
    const Napi::Object object = toObject(source.Get(i), "MSR");
    msrs->entries[i].index = toU32(object.Get("index"), "MSR index");
    msrs->entries[i].data = toBits64(object.Get("value"), "MSR value");
  }
  checkMsrs(info.Env(), ioctl(toInt(info[0], "vcpu"), KVM_SET_MSRS, msrs.get()), msrs.get(),
            "KVM_SET_MSRS");
  return info.Env().Undefined();
}

Napi::Value vcpuSetTscKhz(const Napi::CallbackInfo& info) {
  unsigned long kilohertz = toU32(info[1], "kilohertz");
  check(info.Env(), ioctl(toInt(info[0], "vcpu"), KVM_SET_TSC_KHZ, kilohertz), "KVM_SET_TSC_KHZ");
  return info.Env().Undefined();
}

Napi::Value vcpuNmi(const Napi::CallbackInfo& info) {
  check(info.Env(), ioctl(toInt(info[0], "vcpu"), KVM_NMI, 0), "KVM_NMI");
  return info.Env().Undefined();
}

Napi::Value vcpuClockPaused(const Napi::CallbackInfo& info) {
  check(info.Env(), ioctl(toInt(info[0], "vcpu"), KVM_KVMCLOCK_CTRL, 0), "KVM_KVMCLOCK_CTRL");
  return info.Env().Undefined();
}

}  // namespace

void exposeVcpuState(Napi::Object exports) {
  expose<kvmGetSupportedCpuid>(exports, "kvmGetSupportedCpuid");
  expose<vcpuSetCpuid>(exports, "vcpuSetCpuid");
  expose<vcpuGetRegs>(exports, "vcpuGetRegs");
  expose<vcpuSetRegs>(exports, "vcpuSetRegs");
  expose<vcpuGetSregs>(exports, "vcpuGetSregs");
  expose<vcpuSetSregs>(exports, "vcpuSetSregs");
  expose<vcpuGetMsrs>(exports, "vcpuGetMsrs");
  expose<vcpuSetMsrs>(exports, "vcpuSetMsrs");
  expose<vcpuSetTscKhz>(exports, "vcpuSetTscKhz");
  expose<vcpuNmi>(exports, "vcpuNmi");
  expose<vcpuClockPaused>(exports, "vcpuClockPaused");
}

}  // namespace causeway
