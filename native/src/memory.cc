#include "memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <mutex>
#include <shared_mutex>

#include "common.h"
#include "environment.h"
#include "exposed.h"
#include "vcpu.h"

// Old headers lack these.
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21U << 26)
#endif
#ifndef MFD_HUGE_1GB
#define MFD_HUGE_1GB (30U << 26)
#endif

namespace causeway {
namespace {

constexpr uint64_t kMaxViewBytes = uint64_t{4} << 30;  // what Node 20 can hold in one ArrayBuffer

struct Registry {
  std::shared_mutex mutex;
  std::map<uintptr_t, std::shared_ptr<Mapping>> mappings;  // by base
};

Registry& registry() {
  static Registry* const instance = new Registry;
  return *instance;
}

size_t pageSize() {
  static const size_t size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

}  // namespace

Mapping::~Mapping() { munmap(base, sizeBytes); }

void recordMapping(uint8_t* base, size_t sizeBytes) {
  Registry& shared = registry();
  const std::unique_lock<std::shared_mutex> lock(shared.mutex);
  shared.mappings[reinterpret_cast<uintptr_t>(base)] = std::make_shared<Mapping>(base, sizeBytes);
}

std::shared_ptr<Mapping> findMapping(uint64_t hva, uint64_t sizeBytes) {
  Registry& shared = registry();
  const std::shared_lock<std::shared_mutex> lock(shared.mutex);
  auto after = shared.mappings.upper_bound(hva);
  if (after == shared.mappings.begin()) return nullptr;
  const std::shared_ptr<Mapping>& mapping = (--after)->second;
  const uint64_t offset = hva - after->first;
  if (offset > mapping->sizeBytes || sizeBytes > mapping->sizeBytes - offset) return nullptr;
  return mapping;
}

// ---- views ------------------------------------------------------------------------------------

struct EnvironmentViews::View {
  EnvironmentViews* owner;           // null once detached or the environment ended
  std::shared_ptr<Mapping> mapping;  // null likewise
  napi_ref buffer;                   // weak
};

Napi::Value EnvironmentViews::view(uint64_t hva, uint64_t sizeBytes) {
  Napi::Env env(env_);
  if (sizeBytes > kMaxViewBytes) {
    throw Napi::RangeError::New(
        env, "view: " + std::to_string(sizeBytes) +
                 " bytes; an ArrayBuffer holds at most 4 GiB, take several views");
  }
  std::shared_ptr<Mapping> mapping = findMapping(hva, sizeBytes);
  if (mapping == nullptr) throwErrno(env, "view", EFAULT, {}, "not inside a recorded mapping");
  auto* const view = new View{this, mapping, nullptr};
  napi_value buffer = nullptr;
  const napi_status status = napi_create_external_arraybuffer(env_, reinterpret_cast<void*>(hva),
                                                              sizeBytes, finalize, view, &buffer);
  if (status != napi_ok) {
    delete view;
    // Node gives a bare status here and no exception.
    throw Napi::RangeError::New(env, "view: this runtime cannot make an external ArrayBuffer of " +
                                         std::to_string(sizeBytes) + " bytes");
  }
  napi_create_reference(env_, buffer, 0, &view->buffer);
  views_.push_back(view);
  return Napi::Value(env_, buffer);
}

void EnvironmentViews::finalize(napi_env env, void*, void* hint) {
  auto* const view = static_cast<View*>(hint);
  if (view->owner != nullptr) view->owner->views_.remove(view);
  if (view->buffer != nullptr) napi_delete_reference(env, view->buffer);
  delete view;
}

void EnvironmentViews::detach(const uint8_t* base) {
  const Napi::HandleScope scope{Napi::Env(env_)};
  for (auto entry = views_.begin(); entry != views_.end();) {
    View* const view = *entry;
    if (view->mapping->base != base) {
      ++entry;
      continue;
    }
    napi_value buffer = nullptr;
    napi_get_reference_value(env_, view->buffer, &buffer);
    if (buffer != nullptr && napi_detach_arraybuffer(env_, buffer) != napi_ok) {
      throw Napi::Error::New(env_, "unmap: a view could not be detached, the memory stays mapped");
    }
    // The finalizer may run much later; the memory must not wait for it.
    view->owner = nullptr;
    view->mapping.reset();
    entry = views_.erase(entry);
  }
}

void EnvironmentViews::close() {
  for (View* const view : views_) {
    view->owner = nullptr;
    view->mapping.reset();
  }
  views_.clear();
}

namespace {

// ---- mapping ----------------------------------------------------------------------------------

Napi::Value memfd(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string name = toText(info[0], "name");
  const uint64_t sizeBytes = toU64(info[1], "sizeBytes");
  const uint64_t hugePageBytes = toU64(info[2], "hugePageBytes");
  unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  if (hugePageBytes == uint64_t{2} << 20) {
    flags |= MFD_HUGETLB | MFD_HUGE_2MB;
  } else if (hugePageBytes == uint64_t{1} << 30) {
    flags |= MFD_HUGETLB | MFD_HUGE_1GB;
  } else if (hugePageBytes != 0) {
    throwErrno(env, "memfd_create", EINVAL, {}, "hugePageBytes is 0, 2 MiB or 1 GiB");
  }
  const int fd = check(env, memfd_create(name.c_str(), flags), "memfd_create");
  // A file that shrinks under a mapping turns the guest's RAM into SIGBUS.
  const char* failed = nullptr;
  if (ftruncate(fd, static_cast<off_t>(sizeBytes)) < 0) {
    failed = "ftruncate";
  } else if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0) {
    failed = "F_ADD_SEALS";
  }
  if (failed != nullptr) {
    const int error = errno;
    close(fd);
    throwErrno(env, failed, error);
  }
  return number(env, fd);
}

// What is mapped: a file, or with fd -1 anonymous memory.
struct Source {
  int flags;
  int fd;
  off_t offset;
};

uint8_t* mapAnywhere(Napi::Env env, size_t size, const Source& source) {
  void* const address =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, source.flags, source.fd, source.offset);
  if (address == MAP_FAILED) throwErrno(env, "mmap", errno);
  return static_cast<uint8_t*>(address);
}

// `alignment` is the MapAlignment of types.ts.
uint8_t* mapAligned(Napi::Env env, size_t size, const Source& source,
                    const Napi::Object& alignment) {
  const uint64_t align = toU64(alignment.Get("align"), "alignment.align");
  const uint64_t phase = toU64(alignment.Get("phase"), "alignment.phase");
  if (align < pageSize() || (align & (align - 1)) != 0 || phase >= align ||
      phase % pageSize() != 0) {
    throwErrno(env, "mmap", EINVAL, {},
               "alignment: align is a power of two, phase a page multiple below it");
  }
  // Reserve enough for any phase, place the mapping inside, return the rest.
  const size_t reserved = size + align;
  void* const room =
      mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) throwErrno(env, "mmap", errno, {}, "reserving room for alignment");
  const auto start = reinterpret_cast<uintptr_t>(room);
  const uintptr_t place = start + ((phase - start) & (align - 1));
  void* const address = mmap(reinterpret_cast<void*>(place), size, PROT_READ | PROT_WRITE,
                             source.flags | MAP_FIXED, source.fd, source.offset);
  if (address == MAP_FAILED) {
    const int error = errno;
    munmap(room, reserved);
    throwErrno(env, "mmap", error);
  }
  const uintptr_t end = place + size;
  if (place > start) munmap(room, place - start);
  if (start + reserved > end) munmap(reinterpret_cast<void*>(end), start + reserved - end);
  return static_cast<uint8_t*>(address);
}

Napi::Value recorded(Napi::Env env, uint8_t* base, size_t size) {
  // A child of fork(2) would share pinned pages copy-on-write and could move them away from the
  // device.
  if (madvise(base, size, MADV_DONTFORK) < 0) {
    const int error = errno;
    munmap(base, size);
    throwErrno(env, "madvise", error, {}, "MADV_DONTFORK");
  }
  recordMapping(base, size);
  return number(env, static_cast<double>(reinterpret_cast<uintptr_t>(base)));
}

// Whole pages; the size that is asked for must not be 0.
size_t toPages(Napi::Env env, uint64_t asked) {
  if (asked == 0) throwErrno(env, "mmap", EINVAL, {}, "size 0");
  return (asked + pageSize() - 1) & ~(pageSize() - 1);
}

Napi::Value map(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = toInt(info[0], "fd");
  const auto offset = static_cast<off_t>(toU64(info[1], "offset"));
  const size_t size = toPages(env, toU64(info[2], "sizeBytes"));
  const Source source{MAP_SHARED, fd, offset};
  uint8_t* const base = info[3].IsUndefined()
                            ? mapAnywhere(env, size, source)
                            : mapAligned(env, size, source, toObject(info[3], "alignment"));
  return recorded(env, base, size);
}

Napi::Value mapAnonymous(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const size_t size = toPages(env, toU64(info[0], "sizeBytes"));
  const Source source{MAP_PRIVATE | MAP_ANONYMOUS, -1, 0};
  if (info[1].IsUndefined()) return recorded(env, mapAnywhere(env, size, source), size);
  uint8_t* const base = mapAligned(env, size, source, toObject(info[1], "alignment"));
  // A wish: a kernel without transparent huge pages answers EINVAL and gives small ones.
  madvise(base, size, MADV_HUGEPAGE);
  return recorded(env, base, size);
}

Napi::Value view(const Napi::CallbackInfo& info) {
  return environmentOf(info.Env()).views.view(toU64(info[0], "hva"), toU64(info[1], "sizeBytes"));
}

Napi::Value unmap(const Napi::CallbackInfo& info) {
  const uint64_t hva = toU64(info[0], "hva");
  // Another thread may have asked before: then there is no record, yet this thread's views still
  // are to be detached.
  environmentOf(info.Env()).views.detach(reinterpret_cast<uint8_t*>(hva));
  forgetVcpuRun(hva);
  std::shared_ptr<Mapping> last;  // munmaps outside the lock
  Registry& shared = registry();
  const std::unique_lock<std::shared_mutex> lock(shared.mutex);
  const auto found = shared.mappings.find(hva);
  if (found != shared.mappings.end()) {
    last = std::move(found->second);
    shared.mappings.erase(found);
  }
  return info.Env().Undefined();
}

Napi::Value dropPages(const Napi::CallbackInfo& info) {
  void* const start = reinterpret_cast<void*>(toU64(info[0], "start"));
  if (madvise(start, toU64(info[1], "sizeBytes"), MADV_DONTNEED) < 0)
    throwErrno(info.Env(), "madvise", errno, {}, "MADV_DONTNEED");
  return info.Env().Undefined();
}

}  // namespace

void exposeMemory(Napi::Object exports) {
  expose<memfd>(exports, "memfd");
  expose<map>(exports, "map");
  expose<mapAnonymous>(exports, "mapAnonymous");
  expose<view>(exports, "view");
  expose<unmap>(exports, "unmap");
  expose<dropPages>(exports, "dropPages");
}

}  // namespace causeway
