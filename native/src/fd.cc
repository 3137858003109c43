// File descriptors: open, exact-width access for the vCPU loop, eventfds.
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common.h"
#include "environment.h"
#include "exposed.h"
#include "vcpu.h"

namespace causeway {
namespace {

Napi::Value openFile(const Napi::CallbackInfo& info) {
  const std::string path = toText(info[0], "path");
  const std::string mode = toText(info[1], "mode");
  if (mode != "r" && mode != "rw")
    throw Napi::TypeError::New(info.Env(), "mode: expected 'r' or 'rw'");
  const int fd = open(path.c_str(), (mode == "r" ? O_RDONLY : O_RDWR) | O_CLOEXEC);
  if (fd < 0) throwErrno(info.Env(), "open", errno, path);
  return number(info.Env(), fd);
}

Napi::Value closeFd(const Napi::CallbackInfo& info) {
  const int fd = toInt(info[0], "fd");
  // Before the number can be reused by another thread's open.
  environmentOf(info.Env()).watches.unwatch(fd);
  forgetWatchesOf(fd);
  forgetVcpuFd(fd);
  // On Linux the fd is gone even after EINTR; a retry would close a stranger's.
  if (close(fd) < 0 && errno != EINTR) throwErrno(info.Env(), "close", errno);
  return info.Env().Undefined();
}

Napi::Value dupFd(const Napi::CallbackInfo& info) {
  return number(info.Env(), check(info.Env(), fcntl(toInt(info[0], "fd"), F_DUPFD_CLOEXEC, 3),
                                  "F_DUPFD_CLOEXEC"));
}

// The arguments (fd, offset, bytes, at, width) of pread and pwrite, checked without throwing.
struct Access {
  int32_t fd;
  off_t offset;
  uint8_t* data;
  uint32_t width;
};

bool readAccess(napi_env env, napi_callback_info info, Access& access) {
  size_t argc = 5;
  napi_value argv[5];
  int64_t offset = 0;
  uint32_t at = 0;
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  if (napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr) != napi_ok ||
      napi_get_value_int32(env, argv[0], &access.fd) != napi_ok ||
      napi_get_value_int64(env, argv[1], &offset) != napi_ok ||
      napi_get_typedarray_info(env, argv[2], &type, &length, &data, nullptr, nullptr) != napi_ok ||
      napi_get_value_uint32(env, argv[3], &at) != napi_ok ||
      napi_get_value_uint32(env, argv[4], &access.width) != napi_ok) {
    return false;
  }
  const uint32_t width = access.width;
  if (type != napi_uint8_array || offset < 0) return false;
  if (width != 1 && width != 2 && width != 4 && width != 8) return false;
  if (static_cast<uint64_t>(at) + width > length) return false;
  access.offset = static_cast<off_t>(offset);
  access.data = static_cast<uint8_t*>(data) + at;
  return true;
}

int outcome(ssize_t moved, uint32_t width) {
  if (moved < 0) return -errno;
  return moved == static_cast<ssize_t>(width) ? 0 : -EIO;
}

napi_value preadExact(napi_env env, napi_callback_info info) {
  Access access{};
  if (!readAccess(env, info, access)) return rawInt(env, -EINVAL);
  const ssize_t moved = pread(access.fd, access.data, access.width, access.offset);
  return rawInt(env, outcome(moved, access.width));
}

napi_value pwriteExact(napi_env env, napi_callback_info info) {
  Access access{};
  if (!readAccess(env, info, access)) return rawInt(env, -EINVAL);
  const ssize_t moved = pwrite(access.fd, access.data, access.width, access.offset);
  return rawInt(env, outcome(moved, access.width));
}

Napi::Value readAll(const Napi::CallbackInfo& info) {
  const int fd = toInt(info[0], "fd");
  const uint64_t offset = toU64(info[1], "offset");
  if (!info[2].IsTypedArray() ||
      info[2].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    throw Napi::TypeError::New(info.Env(), "bytes: expected a Uint8Array");
  Napi::Uint8Array bytes = info[2].As<Napi::Uint8Array>();
  for (size_t done = 0; done < bytes.ByteLength();) {
    const ssize_t moved = pread(fd, bytes.Data() + done, bytes.ByteLength() - done,
                                static_cast<off_t>(offset + done));
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) return number(info.Env(), moved < 0 ? -errno : -EIO);
    done += static_cast<size_t>(moved);
  }
  return number(info.Env(), 0);
}

Napi::Value makeEventfd(const Napi::CallbackInfo& info) {
  return number(info.Env(), check(info.Env(), eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd"));
}

Napi::Value eventfdSignal(const Napi::CallbackInfo& info) {
  const int fd = toInt(info[0], "fd");
  const uint64_t count = toU64(info[1], "count");
  if (write(fd, &count, sizeof count) < 0) throwErrno(info.Env(), "write", errno, {}, "eventfd");
  return info.Env().Undefined();
}

Napi::Value eventfdTake(const Napi::CallbackInfo& info) {
  const int fd = toInt(info[0], "fd");
  uint64_t count = 0;
  if (read(fd, &count, sizeof count) < 0) {
    if (errno != EAGAIN) throwErrno(info.Env(), "read", errno, {}, "eventfd");
    count = 0;
  }
  return number(info.Env(), static_cast<double>(count));
}

Napi::Value isReadable(const Napi::CallbackInfo& info) {
  pollfd entry{toInt(info[0], "fd"), POLLIN, 0};
  check(info.Env(), poll(&entry, 1, 0), "poll");
  if ((entry.revents & POLLNVAL) != 0) throwErrno(info.Env(), "poll", EBADF);
  return Napi::Boolean::New(info.Env(), (entry.revents & POLLIN) != 0);
}

}  // namespace

void exposeFd(Napi::Object exports) {
  expose<openFile>(exports, "open");
  expose<closeFd>(exports, "close");
  expose<dupFd>(exports, "dup");
  exposeRaw(exports, "pread", preadExact);
  exposeRaw(exports, "pwrite", pwriteExact);
  expose<readAll>(exports, "readAll");
  expose<makeEventfd>(exports, "eventfd");
  expose<eventfdSignal>(exports, "eventfdSignal");
  expose<eventfdTake>(exports, "eventfdTake");
  expose<isReadable>(exports, "isReadable");
}

}  // namespace causeway
