// Errors and argument checks.
#include <fcntl.h>

#include <cmath>
#include <cstring>

#include "common.h"

namespace causeway {
namespace {

struct ErrnoName {
  int error;
  const char* name;
};

// strerrorname_np needs glibc 2.32, newer than what Node itself needs.
// clang-format off
#define NAME(code) {code, #code},
constexpr ErrnoName kErrnoNames[] = {
    NAME(EPERM) NAME(ENOENT) NAME(ESRCH) NAME(EINTR) NAME(EIO) NAME(ENXIO) NAME(E2BIG) NAME(ENOEXEC)
    NAME(EBADF) NAME(ECHILD) NAME(EAGAIN) NAME(ENOMEM) NAME(EACCES) NAME(EFAULT) NAME(ENOTBLK)
    NAME(EBUSY) NAME(EEXIST) NAME(EXDEV) NAME(ENODEV) NAME(ENOTDIR) NAME(EISDIR) NAME(EINVAL)
    NAME(ENFILE) NAME(EMFILE) NAME(ENOTTY) NAME(ETXTBSY) NAME(EFBIG) NAME(ENOSPC) NAME(ESPIPE)
    NAME(EROFS) NAME(EMLINK) NAME(EPIPE) NAME(EDOM) NAME(ERANGE) NAME(EDEADLK) NAME(ENAMETOOLONG)
    NAME(ENOLCK) NAME(ENOSYS) NAME(ENOTEMPTY) NAME(ELOOP) NAME(ENODATA) NAME(ETIME) NAME(EPROTO)
    NAME(EBADMSG) NAME(EOVERFLOW) NAME(EMSGSIZE) NAME(EOPNOTSUPP) NAME(ECONNRESET) NAME(ENOBUFS)
    NAME(ETIMEDOUT) NAME(EALREADY) NAME(EREMOTEIO) NAME(ECANCELED) NAME(EHWPOISON)
};
#undef NAME
// clang-format on

std::string errnoName(int error) {
  for (const ErrnoName& entry : kErrnoNames) {
    if (entry.error == error) return entry.name;
  }
  return "E" + std::to_string(error);
}

[[noreturn]] void throwType(Napi::Env env, const char* what, const char* expected) {
  throw Napi::TypeError::New(env, std::string(what) + ": expected " + expected);
}

double toNumber(const Napi::Value& value, const char* what, double min, double max,
                const char* expected) {
  if (!value.IsNumber()) throwType(value.Env(), what, expected);
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= min && number <= max) || number != std::trunc(number)) {
    throwType(value.Env(), what, expected);
  }
  return number;
}

}  // namespace

void throwErrno(Napi::Env env, const char* syscall, int error, const std::string& path,
                const std::string& detail) {
  const std::string code = errnoName(error);
  std::string message = std::string(syscall) + ": " + code + " (" + std::strerror(error) + ")";
  if (!path.empty()) message += ": " + path;
  if (!detail.empty()) message += ": " + detail;
  Napi::Error failure = Napi::Error::New(env, message);
  Napi::Object object = failure.Value();
  object.Set("name", "KernelError");
  object.Set("code", code);
  object.Set("errno", error);
  object.Set("syscall", syscall);
  if (!path.empty()) object.Set("path", path);
  throw failure;
}

int check(Napi::Env env, int result, const char* syscall) {
  if (result < 0) throwErrno(env, syscall, errno);
  return result;
}

int closeOnExec(Napi::Env env, int fd, const char* syscall) {
  check(env, fd, syscall);
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  return fd;
}

int32_t toInt(const Napi::Value& value, const char* what) {
  return static_cast<int32_t>(toNumber(value, what, INT32_MIN, INT32_MAX, "a 32-bit integer"));
}

uint32_t toU32(const Napi::Value& value, const char* what) {
  return static_cast<uint32_t>(toNumber(value, what, 0, UINT32_MAX, "an unsigned 32-bit integer"));
}

uint64_t toU64(const Napi::Value& value, const char* what) {
  return static_cast<uint64_t>(
      toNumber(value, what, 0, kMaxSafeInteger, "an integer from 0 to 2^53-1"));
}

uint64_t toBits64(const Napi::Value& value, const char* what) {
  if (!value.IsBigInt()) throwType(value.Env(), what, "a bigint");
  bool lossless = false;
  const uint64_t result = value.As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless) throwType(value.Env(), what, "a bigint from 0 to 2^64-1");
  return result;
}

bool toFlag(const Napi::Value& value, const char* what) {
  if (!value.IsBoolean()) throwType(value.Env(), what, "a boolean");
  return value.As<Napi::Boolean>().Value();
}

std::string toText(const Napi::Value& value, const char* what) {
  if (!value.IsString()) throwType(value.Env(), what, "a string");
  return value.As<Napi::String>().Utf8Value();
}

Napi::Object toObject(const Napi::Value& value, const char* what) {
  if (!value.IsObject()) throwType(value.Env(), what, "an object");
  return value.As<Napi::Object>();
}

Napi::Array toArray(const Napi::Value& value, const char* what) {
  if (!value.IsArray()) throwType(value.Env(), what, "an array");
  return value.As<Napi::Array>();
}

Napi::Value bytes(Napi::Env env, const void* data, size_t size) {
  Napi::Uint8Array array = Napi::Uint8Array::New(env, size);
  if (size > 0) std::memcpy(array.Data(), data, size);
  return array;
}

void exposeRaw(Napi::Object exports, const char* name, napi_callback callback) {
  napi_value function;
  if (napi_create_function(exports.Env(), name, NAPI_AUTO_LENGTH, callback, nullptr, &function) ==
      napi_ok) {
    exports.Set(name, Napi::Value(exports.Env(), function));
  }
}

napi_value rawInt(napi_env env, int value) {
  napi_value result = nullptr;
  napi_create_int32(env, value, &result);
  return result;
}

}  // namespace causeway
