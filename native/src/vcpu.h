// The process-wide registry of vCPUs that `vcpuKick` needs. KVM knows no way to stop a vCPU but a
// signal to its thread.
#pragma once

#include <cstdint>

#include "kernel.h"

namespace causeway {

// A vCPU whose kvm_run page has just been mapped.
void recordVcpu(int fd, kvm_run* run);
// The fd is about to be closed, or its kvm_run page about to be unmapped: no kick may touch them
// any more.
void forgetVcpuFd(int fd);
void forgetVcpuRun(uint64_t hva);

}  // namespace causeway
