// The kernel's headers, made right for C++.
#pragma once

#include <linux/stddef.h>

// Up to Linux 6.6 this macro puts an empty struct before the array. It has size 0 in C and 1 in
// C++, so kvm_cpuid2 and kvm_msrs would get a wrong size, and their ioctls, which contain it, a
// wrong number.
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(TYPE, NAME) TYPE NAME[0]

#include <linux/kvm.h>
#include <linux/vfio.h>

static_assert(sizeof(kvm_cpuid2) == 8);
static_assert(sizeof(kvm_msrs) == 8);
static_assert(sizeof(kvm_irq_routing) == 8);
static_assert(sizeof(vfio_pci_hot_reset_info) == 12);
static_assert(sizeof(vfio_pci_hot_reset) == 12);
static_assert(KVM_GET_SUPPORTED_CPUID == 0xC008AE05);
static_assert(KVM_SET_CPUID2 == 0x4008AE90);
static_assert(KVM_SET_MSRS == 0x4008AE89);
static_assert(KVM_SET_GSI_ROUTING == 0x4008AE6A);
static_assert(KVM_IRQFD == 0x4020AE76);
static_assert(KVM_IOEVENTFD == 0x4040AE79);
static_assert(KVM_SIGNAL_MSI == 0x4020AEA5);
static_assert(KVM_SET_USER_MEMORY_REGION == 0x4020AE46);
static_assert(KVM_CREATE_DEVICE == 0xC00CAEE0);
static_assert(KVM_SET_DEVICE_ATTR == 0x4018AEE1);
static_assert(KVM_ENABLE_CAP == 0x4068AEA3);
static_assert(KVM_CREATE_PIT2 == 0x4040AE77);
static_assert(VFIO_DEVICE_SET_IRQS == 0x3B6E);
static_assert(VFIO_DEVICE_FEATURE == 0x3B75);
