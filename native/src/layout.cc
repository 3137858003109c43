// Layouts of the structs that TypeScript decodes: asserted here against the kernel's ABI, and
// reported so that a test can compare TypeScript's own numbers with them.

#include <cstddef>

#include "common.h"
#include "exposed.h"
#include "iommufd.h"
#include "kernel.h"

namespace causeway {
namespace {

static_assert(offsetof(kvm_run, immediate_exit) == 1);
static_assert(offsetof(kvm_run, exit_reason) == 8);
static_assert(offsetof(kvm_run, io) == 32);
static_assert(offsetof(kvm_run, mmio.is_write) == 52);
static_assert(sizeof(kvm_userspace_memory_region) == 32);
static_assert(sizeof(kvm_irqfd) == 32);
static_assert(sizeof(kvm_ioeventfd) == 64);
static_assert(sizeof(kvm_irq_routing_entry) == 48);
static_assert(sizeof(kvm_msi) == 32);
static_assert(sizeof(kvm_cpuid_entry2) == 40);
static_assert(sizeof(kvm_msr_entry) == 16);
static_assert(sizeof(vfio_device_info) == 20 ||
              sizeof(vfio_device_info) == 24);  // grew padding after 6.1
static_assert(sizeof(vfio_region_info) == 32);
static_assert(sizeof(vfio_irq_set) == 20);
static_assert(sizeof(vfio_iommu_type1_info) == 20 || sizeof(vfio_iommu_type1_info) == 24);
static_assert(sizeof(vfio_iommu_type1_dma_map) == 32);
static_assert(sizeof(vfio_iommu_type1_dma_unmap) == 24);
static_assert(sizeof(vfio_device_feature) == 8);

Napi::Value structLayout(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Object layout = Napi::Object::New(env);
#define SIZE(type) layout.Set(#type, static_cast<double>(sizeof(type)));
#define FIELD(type, field) layout.Set(#type "." #field, static_cast<double>(offsetof(type, field)));
  FIELD(kvm_run, request_interrupt_window)
  FIELD(kvm_run, immediate_exit)
  FIELD(kvm_run, exit_reason)
  FIELD(kvm_run, io.direction)
  FIELD(kvm_run, io.size)
  FIELD(kvm_run, io.port)
  FIELD(kvm_run, io.count)
  FIELD(kvm_run, io.data_offset)
  FIELD(kvm_run, mmio.phys_addr)
  FIELD(kvm_run, mmio.data)
  FIELD(kvm_run, mmio.len)
  FIELD(kvm_run, mmio.is_write)
  FIELD(kvm_run, fail_entry.hardware_entry_failure_reason)
  FIELD(kvm_run, internal.suberror)
  FIELD(kvm_run, system_event.type)
  FIELD(kvm_run, hw.hardware_exit_reason)
  SIZE(vfio_device_info)
  FIELD(vfio_device_info, argsz)
  FIELD(vfio_device_info, flags)
  FIELD(vfio_device_info, num_regions)
  FIELD(vfio_device_info, num_irqs)
  FIELD(vfio_device_info, cap_offset)
  SIZE(vfio_region_info)
  FIELD(vfio_region_info, argsz)
  FIELD(vfio_region_info, flags)
  FIELD(vfio_region_info, index)
  FIELD(vfio_region_info, cap_offset)
  FIELD(vfio_region_info, size)
  FIELD(vfio_region_info, offset)
  SIZE(vfio_info_cap_header)
  FIELD(vfio_info_cap_header, id)
  FIELD(vfio_info_cap_header, version)
  FIELD(vfio_info_cap_header, next)
  FIELD(vfio_region_info_cap_sparse_mmap, nr_areas)
  FIELD(vfio_region_info_cap_sparse_mmap, areas)
  SIZE(vfio_region_sparse_mmap_area)
  FIELD(vfio_region_sparse_mmap_area, offset)
  FIELD(vfio_region_sparse_mmap_area, size)
  FIELD(vfio_region_info_cap_type, type)
  FIELD(vfio_region_info_cap_type, subtype)
  SIZE(vfio_iommu_type1_info)
  FIELD(vfio_iommu_type1_info, argsz)
  FIELD(vfio_iommu_type1_info, flags)
  FIELD(vfio_iommu_type1_info, iova_pgsizes)
  FIELD(vfio_iommu_type1_info, cap_offset)
  FIELD(vfio_iommu_type1_info_cap_iova_range, nr_iovas)
  FIELD(vfio_iommu_type1_info_cap_iova_range, iova_ranges)
  SIZE(vfio_iova_range)
  FIELD(vfio_iova_range, start)
  FIELD(vfio_iova_range, end)
  FIELD(vfio_iommu_type1_info_dma_avail, avail)
  SIZE(vfio_pci_hot_reset_info)
  FIELD(vfio_pci_hot_reset_info, flags)
  FIELD(vfio_pci_hot_reset_info, count)
  FIELD(vfio_pci_hot_reset_info, devices)
  SIZE(vfio_pci_dependent_device)
  FIELD(vfio_pci_dependent_device, group_id)
  FIELD(vfio_pci_dependent_device, segment)
  FIELD(vfio_pci_dependent_device, bus)
  FIELD(vfio_pci_dependent_device, devfn)
  SIZE(IommuIovaRange)
  FIELD(IommuIovaRange, start)
  FIELD(IommuIovaRange, last)
#undef SIZE
#undef FIELD
  return layout;
}

}  // namespace

void exposeLayout(Napi::Object exports) { expose<structLayout>(exports, "structLayout"); }

}  // namespace causeway
