// VFIO: container, group and device. Structures with capability chains go to TypeScript as raw
// bytes.
#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>

#include "common.h"
#include "exposed.h"
#include "kernel.h"

namespace causeway {
namespace {

Napi::Value vfioApiVersion(const Napi::CallbackInfo& info) {
  return number(info.Env(),
                check(info.Env(), ioctl(toInt(info[0], "container"), VFIO_GET_API_VERSION),
                      "VFIO_GET_API_VERSION"));
}

Napi::Value vfioCheckExtension(const Napi::CallbackInfo& info) {
  const unsigned long extension = toU32(info[1], "extension");
  const int result = ioctl(toInt(info[0], "container"), VFIO_CHECK_EXTENSION, extension);
  return Napi::Boolean::New(info.Env(), check(info.Env(), result, "VFIO_CHECK_EXTENSION") > 0);
}

Napi::Value vfioSetIommu(const Napi::CallbackInfo& info) {
  const unsigned long type = toU32(info[1], "type");
  check(info.Env(), ioctl(toInt(info[0], "container"), VFIO_SET_IOMMU, type), "VFIO_SET_IOMMU");
  return info.Env().Undefined();
}

// An INFO ioctl with too small a buffer succeeds, leaves the capabilities out and says in argsz how
// much it needs.
template <typename Info, typename Prepare>
Napi::Value queryInfo(Napi::Env env, int fd, unsigned long request, const char* name,
                      Prepare prepare) {
  size_t room = sizeof(Info) + 256;
  for (int attempt = 0;; attempt++) {
    Tailed<Info> info(room - sizeof(Info));
    info->argsz = static_cast<__u32>(room);
    prepare(*info.get());
    check(env, ioctl(fd, request, info.get()), name);
    const size_t needed = info->argsz;
    if (needed <= room || attempt == 1) return bytes(env, info.get(), std::min(needed, room));
    room = needed;
  }
}

Napi::Value vfioIommuInfo(const Napi::CallbackInfo& info) {
  return queryInfo<vfio_iommu_type1_info>(info.Env(), toInt(info[0], "container"),
                                          VFIO_IOMMU_GET_INFO, "VFIO_IOMMU_GET_INFO",
                                          [](vfio_iommu_type1_info&) {});
}

Napi::Value vfioGroupStatus(const Napi::CallbackInfo& info) {
  vfio_group_status status{};
  status.argsz = sizeof status;
  check(info.Env(), ioctl(toInt(info[0], "group"), VFIO_GROUP_GET_STATUS, &status),
        "VFIO_GROUP_GET_STATUS");
  return number(info.Env(), status.flags);
}

Napi::Value vfioGroupSetContainer(const Napi::CallbackInfo& info) {
  int32_t container = toInt(info[1], "container");
  check(info.Env(), ioctl(toInt(info[0], "group"), VFIO_GROUP_SET_CONTAINER, &container),
        "VFIO_GROUP_SET_CONTAINER");
  return info.Env().Undefined();
}

Napi::Value vfioGroupUnsetContainer(const Napi::CallbackInfo& info) {
  check(info.Env(), ioctl(toInt(info[0], "group"), VFIO_GROUP_UNSET_CONTAINER),
        "VFIO_GROUP_UNSET_CONTAINER");
  return info.Env().Undefined();
}

Napi::Value vfioGroupGetDevice(const Napi::CallbackInfo& info) {
  const std::string name = toText(info[1], "name");
  const int fd = ioctl(toInt(info[0], "group"), VFIO_GROUP_GET_DEVICE_FD, name.c_str());
  return number(info.Env(), closeOnExec(info.Env(), fd, "VFIO_GROUP_GET_DEVICE_FD"));
}

// ---- device -----------------------------------------------------------------------------------

Napi::Value vfioDeviceInfo(const Napi::CallbackInfo& info) {
  return queryInfo<vfio_device_info>(info.Env(), toInt(info[0], "device"), VFIO_DEVICE_GET_INFO,
                                     "VFIO_DEVICE_GET_INFO", [](vfio_device_info&) {});
}

Napi::Value vfioRegionInfo(const Napi::CallbackInfo& info) {
  const uint32_t index = toU32(info[1], "index");
  return queryInfo<vfio_region_info>(info.Env(), toInt(info[0], "device"),
                                     VFIO_DEVICE_GET_REGION_INFO, "VFIO_DEVICE_GET_REGION_INFO",
                                     [index](vfio_region_info& region) { region.index = index; });
}

Napi::Value vfioIrqInfo(const Napi::CallbackInfo& info) {
  vfio_irq_info irq{};
  irq.argsz = sizeof irq;
  irq.index = toU32(info[1], "index");
  check(info.Env(), ioctl(toInt(info[0], "device"), VFIO_DEVICE_GET_IRQ_INFO, &irq),
        "VFIO_DEVICE_GET_IRQ_INFO");
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("flags", number(info.Env(), irq.flags));
  result.Set("count", number(info.Env(), irq.count));
  return result;
}

uint32_t actionFlag(const Napi::Value& value) {
  const std::string action = toText(value, "action");
  if (action == "trigger") return VFIO_IRQ_SET_ACTION_TRIGGER;
  if (action == "mask") return VFIO_IRQ_SET_ACTION_MASK;
  if (action == "unmask") return VFIO_IRQ_SET_ACTION_UNMASK;
  throw Napi::TypeError::New(value.Env(), "action: expected 'trigger', 'mask' or 'unmask'");
}

Napi::Value vfioSetIrqs(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Object source = toObject(info[1], "set");
  const Napi::Value data = source.Get("data");
  uint32_t flags = actionFlag(source.Get("action"));
  const void* payload = nullptr;
  size_t payloadBytes = 0;
  if (data.IsNull()) {
    flags |= VFIO_IRQ_SET_DATA_NONE;
  } else {
    const auto type =
        data.IsTypedArray() ? data.As<Napi::TypedArray>().TypedArrayType() : napi_float64_array;
    if (type == napi_uint8_array) {
      flags |= VFIO_IRQ_SET_DATA_BOOL;
    } else if (type == napi_int32_array) {
      flags |= VFIO_IRQ_SET_DATA_EVENTFD;
    } else {
      throw Napi::TypeError::New(env, "data: expected null, Uint8Array or Int32Array");
    }
    const auto array = data.As<Napi::TypedArray>();
    payload = static_cast<const uint8_t*>(array.ArrayBuffer().Data()) + array.ByteOffset();
    payloadBytes = array.ByteLength();
  }
  Tailed<vfio_irq_set> request(payloadBytes);
  request->argsz = static_cast<__u32>(sizeof(vfio_irq_set) + payloadBytes);
  request->flags = flags;
  request->index = toU32(source.Get("index"), "index");
  request->start = toU32(source.Get("start"), "start");
  request->count = toU32(source.Get("count"), "count");
  if (payloadBytes > 0)
    std::memcpy(request.at(offsetof(vfio_irq_set, data)), payload, payloadBytes);
  const int result = ioctl(toInt(info[0], "device"), VFIO_DEVICE_SET_IRQS, request.get());
  return number(env, check(env, result, "VFIO_DEVICE_SET_IRQS"));
}

Napi::Value vfioDeviceReset(const Napi::CallbackInfo& info) {
  check(info.Env(), ioctl(toInt(info[0], "device"), VFIO_DEVICE_RESET), "VFIO_DEVICE_RESET");
  return info.Env().Undefined();
}

Napi::Value vfioHotResetInfo(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int device = toInt(info[0], "device");
  uint32_t room = 32;
  for (int attempt = 0;; attempt++) {
    Tailed<vfio_pci_hot_reset_info> list(room * sizeof(vfio_pci_dependent_device));
    const size_t size = sizeof(vfio_pci_hot_reset_info) + room * sizeof(vfio_pci_dependent_device);
    list->argsz = static_cast<__u32>(size);
    if (ioctl(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, list.get()) < 0) {
      const int error = errno;
      // ENOSPC comes with the count that is needed.
      if (error == ENOSPC && attempt == 0 && list->count > room) {
        room = list->count;
        continue;
      }
      throwErrno(env, "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", error);
    }
    const size_t used = sizeof(vfio_pci_hot_reset_info) +
                        std::min(list->count, room) * sizeof(vfio_pci_dependent_device);
    return bytes(env, list.get(), used);
  }
}

Napi::Value vfioHotReset(const Napi::CallbackInfo& info) {
  const Napi::Array groups = toArray(info[1], "groups");
  const uint32_t count = groups.Length();
  Tailed<vfio_pci_hot_reset> request(count * sizeof(int32_t));
  request->argsz = static_cast<__u32>(sizeof(vfio_pci_hot_reset) + count * sizeof(int32_t));
  request->count = count;
  for (uint32_t i = 0; i < count; i++) request->group_fds[i] = toInt(groups.Get(i), "group");
  const int result = ioctl(toInt(info[0], "device"), VFIO_DEVICE_PCI_HOT_RESET, request.get());
  check(info.Env(), result, "VFIO_DEVICE_PCI_HOT_RESET");
  return info.Env().Undefined();
}

Napi::Value vfioDeviceFeature(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[2].IsTypedArray() ||
      info[2].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw Napi::TypeError::New(env, "payload: expected a Uint8Array");
  }
  auto payload = info[2].As<Napi::Uint8Array>();
  const size_t size = payload.ByteLength();
  Tailed<vfio_device_feature> request(size);
  request->argsz = static_cast<__u32>(sizeof(vfio_device_feature) + size);
  request->flags = toU32(info[1], "flags");
  if (size > 0) std::memcpy(request->data, payload.Data(), size);
  check(env, ioctl(toInt(info[0], "device"), VFIO_DEVICE_FEATURE, request.get()),
        "VFIO_DEVICE_FEATURE");
  if (size > 0) std::memcpy(payload.Data(), request->data, size);
  return env.Undefined();
}

// ---- DMA --------------------------------------------------------------------------------------

Napi::Value vfioMapDma(const Napi::CallbackInfo& info) {
  vfio_iommu_type1_dma_map request{};
  request.argsz = sizeof request;
  request.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
  request.vaddr = toU64(info[1], "hva");
  request.iova = toU64(info[2], "iova");
  request.size = toU64(info[3], "sizeBytes");
  check(info.Env(), ioctl(toInt(info[0], "container"), VFIO_IOMMU_MAP_DMA, &request),
        "VFIO_IOMMU_MAP_DMA");
  return info.Env().Undefined();
}

Napi::Value vfioUnmapDma(const Napi::CallbackInfo& info) {
  vfio_iommu_type1_dma_unmap request{};
  request.argsz = sizeof request;
  request.iova = toU64(info[1], "iova");
  request.size = toU64(info[2], "sizeBytes");
  check(info.Env(), ioctl(toInt(info[0], "container"), VFIO_IOMMU_UNMAP_DMA, &request),
        "VFIO_IOMMU_UNMAP_DMA");
  return number(info.Env(), static_cast<double>(request.size));
}

}  // namespace

void exposeVfio(Napi::Object exports) {
  expose<vfioApiVersion>(exports, "vfioApiVersion");
  expose<vfioCheckExtension>(exports, "vfioCheckExtension");
  expose<vfioSetIommu>(exports, "vfioSetIommu");
  expose<vfioIommuInfo>(exports, "vfioIommuInfo");
  expose<vfioGroupStatus>(exports, "vfioGroupStatus");
  expose<vfioGroupSetContainer>(exports, "vfioGroupSetContainer");
  expose<vfioGroupUnsetContainer>(exports, "vfioGroupUnsetContainer");
  expose<vfioGroupGetDevice>(exports, "vfioGroupGetDevice");
  expose<vfioDeviceInfo>(exports, "vfioDeviceInfo");
  expose<vfioRegionInfo>(exports, "vfioRegionInfo");
  expose<vfioIrqInfo>(exports, "vfioIrqInfo");
  expose<vfioSetIrqs>(exports, "vfioSetIrqs");
  expose<vfioDeviceReset>(exports, "vfioDeviceReset");
  expose<vfioHotResetInfo>(exports, "vfioHotResetInfo");
  expose<vfioHotReset>(exports, "vfioHotReset");
  expose<vfioDeviceFeature>(exports, "vfioDeviceFeature");
  expose<vfioMapDma>(exports, "vfioMapDma");
  expose<vfioUnmapDma>(exports, "vfioUnmapDma");
}

}  // namespace causeway
