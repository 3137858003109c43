// iommufd: address spaces of I/O virtual addresses, and VFIO devices bound to them by their own
// files.
#include "iommufd.h"

#include <sys/ioctl.h>

#include <vector>

#include "common.h"
#include "exposed.h"

namespace causeway {
namespace {

Napi::Value iommufdAllocIoas(const Napi::CallbackInfo& info) {
  IommuIoasAlloc request{};
  request.size = sizeof request;
  check(info.Env(), ioctl(toInt(info[0], "iommufd"), kIommuIoasAlloc, &request),
        "IOMMU_IOAS_ALLOC");
  return number(info.Env(), request.out_ioas_id);
}

Napi::Value iommufdDestroy(const Napi::CallbackInfo& info) {
  IommuDestroy request{};
  request.size = sizeof request;
  request.id = toU32(info[1], "id");
  check(info.Env(), ioctl(toInt(info[0], "iommufd"), kIommuDestroy, &request), "IOMMU_DESTROY");
  return info.Env().Undefined();
}

// EMSGSIZE comes with the number of ranges that there are.
Napi::Value iommufdIovaRanges(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int iommufd = toInt(info[0], "iommufd");
  const uint32_t ioas = toU32(info[1], "ioas");
  uint32_t room = 16;
  for (int attempt = 0;; attempt++) {
    std::vector<IommuIovaRange> ranges(room);
    IommuIoasIovaRanges request{};
    request.size = sizeof request;
    request.ioas_id = ioas;
    request.num_iovas = room;
    request.allowed_iovas = reinterpret_cast<uintptr_t>(ranges.data());
    if (ioctl(iommufd, kIommuIoasIovaRanges, &request) < 0) {
      const int error = errno;
      if (error == EMSGSIZE && attempt == 0 && request.num_iovas > room) {
        room = request.num_iovas;
        continue;
      }
      throwErrno(env, "IOMMU_IOAS_IOVA_RANGES", error);
    }
    const uint32_t count = request.num_iovas < room ? request.num_iovas : room;
    Napi::Object result = Napi::Object::New(env);
    result.Set("alignmentBytes", number(env, static_cast<double>(request.out_iova_alignment)));
    result.Set("ranges", bytes(env, ranges.data(), count * sizeof(IommuIovaRange)));
    return result;
  }
}

Napi::Value iommufdMap(const Napi::CallbackInfo& info) {
  IommuIoasMap request{};
  request.size = sizeof request;
  request.flags = kMapFixedIova | kMapWriteable | kMapReadable;
  request.ioas_id = toU32(info[1], "ioas");
  request.user_va = toU64(info[2], "hva");
  request.iova = toU64(info[3], "iova");
  request.length = toU64(info[4], "sizeBytes");
  check(info.Env(), ioctl(toInt(info[0], "iommufd"), kIommuIoasMap, &request), "IOMMU_IOAS_MAP");
  return info.Env().Undefined();
}

Napi::Value iommufdUnmap(const Napi::CallbackInfo& info) {
  IommuIoasUnmap request{};
  request.size = sizeof request;
  request.ioas_id = toU32(info[1], "ioas");
  request.iova = toU64(info[2], "iova");
  request.length = toU64(info[3], "sizeBytes");
  check(info.Env(), ioctl(toInt(info[0], "iommufd"), kIommuIoasUnmap, &request),
        "IOMMU_IOAS_UNMAP");
  return number(info.Env(), static_cast<double>(request.length));
}

Napi::Value vfioBindIommufd(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  VfioDeviceBindIommufd request{};
  // Without a token the struct is the one of Linux 6.6.
  request.argsz = offsetof(VfioDeviceBindIommufd, token_uuid_ptr);
  request.iommufd = toInt(info[1], "iommufd");
  uint8_t token[16] = {};
  if (!info[2].IsUndefined()) {
    if (!info[2].IsTypedArray() ||
        info[2].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array ||
        info[2].As<Napi::Uint8Array>().ByteLength() != sizeof token) {
      throw Napi::TypeError::New(env, "token: expected a Uint8Array of 16 bytes");
    }
    const auto source = info[2].As<Napi::Uint8Array>();
    for (size_t i = 0; i < sizeof token; i++) token[i] = source[i];
    request.argsz = sizeof request;
    request.flags = kBindFlagToken;
    request.token_uuid_ptr = reinterpret_cast<uintptr_t>(token);
  }
  check(env, ioctl(toInt(info[0], "device"), kVfioDeviceBindIommufd, &request),
        "VFIO_DEVICE_BIND_IOMMUFD");
  return number(env, request.out_devid);
}

Napi::Value vfioAttachIoas(const Napi::CallbackInfo& info) {
  VfioDeviceAttachIommufdPt request{};
  request.argsz = sizeof request;
  request.pt_id = toU32(info[1], "ioas");
  check(info.Env(), ioctl(toInt(info[0], "device"), kVfioDeviceAttachIommufdPt, &request),
        "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
  return number(info.Env(), request.pt_id);
}

Napi::Value vfioDetachIoas(const Napi::CallbackInfo& info) {
  VfioDeviceDetachIommufdPt request{};
  request.argsz = sizeof request;
  check(info.Env(), ioctl(toInt(info[0], "device"), kVfioDeviceDetachIommufdPt, &request),
        "VFIO_DEVICE_DETACH_IOMMUFD_PT");
  return info.Env().Undefined();
}

}  // namespace

void exposeIommufd(Napi::Object exports) {
  expose<iommufdAllocIoas>(exports, "iommufdAllocIoas");
  expose<iommufdDestroy>(exports, "iommufdDestroy");
  expose<iommufdIovaRanges>(exports, "iommufdIovaRanges");
  expose<iommufdMap>(exports, "iommufdMap");
  expose<iommufdUnmap>(exports, "iommufdUnmap");
  expose<vfioBindIommufd>(exports, "vfioBindIommufd");
  expose<vfioAttachIoas>(exports, "vfioAttachIoas");
  expose<vfioDetachIoas>(exports, "vfioDetachIoas");
}

}  // namespace causeway
