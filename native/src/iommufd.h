// The ABI of iommufd and of VFIO's device files (include/uapi/linux/iommufd.h, vfio.h), for which
// the headers of many distributions are too old. Own names, so that newer headers do not clash.
#pragma once

#include <linux/ioctl.h>
#include <linux/types.h>

#include <cstddef>

namespace causeway {

struct IommuDestroy {
  __u32 size;
  __u32 id;
};

struct IommuIoasAlloc {
  __u32 size;
  __u32 flags;
  __u32 out_ioas_id;
};

struct IommuIovaRange {
  __u64 start;
  __u64 last;
};

struct IommuIoasIovaRanges {
  __u32 size;
  __u32 ioas_id;
  __u32 num_iovas;
  __u32 reserved;
  __u64 allowed_iovas;
  __u64 out_iova_alignment;
};

struct IommuIoasMap {
  __u32 size;
  __u32 flags;
  __u32 ioas_id;
  __u32 reserved;
  __u64 user_va;
  __u64 length;
  __u64 iova;
};

struct IommuIoasUnmap {
  __u32 size;
  __u32 ioas_id;
  __u64 iova;
  __u64 length;
};

// token_uuid_ptr came with Linux 6.17; a kernel before it takes the struct without.
struct VfioDeviceBindIommufd {
  __u32 argsz;
  __u32 flags;
  __s32 iommufd;
  __u32 out_devid;
  __u64 token_uuid_ptr;
};

struct VfioDeviceAttachIommufdPt {
  __u32 argsz;
  __u32 flags;
  __u32 pt_id;
};

struct VfioDeviceDetachIommufdPt {
  __u32 argsz;
  __u32 flags;
};

constexpr unsigned long kIommuDestroy = _IO(';', 0x80);
constexpr unsigned long kIommuIoasAlloc = _IO(';', 0x81);
constexpr unsigned long kIommuIoasIovaRanges = _IO(';', 0x84);
constexpr unsigned long kIommuIoasMap = _IO(';', 0x85);
constexpr unsigned long kIommuIoasUnmap = _IO(';', 0x86);
constexpr unsigned long kVfioDeviceBindIommufd = _IO(';', 100 + 18);
constexpr unsigned long kVfioDeviceAttachIommufdPt = _IO(';', 100 + 19);
constexpr unsigned long kVfioDeviceDetachIommufdPt = _IO(';', 100 + 20);

constexpr __u32 kMapFixedIova = 1 << 0;
constexpr __u32 kMapWriteable = 1 << 1;
constexpr __u32 kMapReadable = 1 << 2;
constexpr __u32 kBindFlagToken = 1 << 0;

static_assert(sizeof(IommuDestroy) == 8);
static_assert(sizeof(IommuIoasAlloc) == 12);
static_assert(sizeof(IommuIovaRange) == 16);
static_assert(sizeof(IommuIoasIovaRanges) == 32);
static_assert(offsetof(IommuIoasIovaRanges, out_iova_alignment) == 24);
static_assert(sizeof(IommuIoasMap) == 40);
static_assert(offsetof(IommuIoasMap, iova) == 32);
static_assert(sizeof(IommuIoasUnmap) == 24);
static_assert(offsetof(IommuIoasUnmap, length) == 16);
static_assert(sizeof(VfioDeviceBindIommufd) == 24);
static_assert(offsetof(VfioDeviceBindIommufd, out_devid) == 12);
static_assert(sizeof(VfioDeviceAttachIommufdPt) == 12);
static_assert(sizeof(VfioDeviceDetachIommufdPt) == 8);
static_assert(kVfioDeviceBindIommufd == 0x3B76);
static_assert(kIommuIoasMap == 0x3B85);

}  // namespace causeway
