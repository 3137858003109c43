// Shared by every file of the addon: argument checks, errors, file descriptors. No state, no
// policy.
#pragma once

#include <napi.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <vector>

namespace causeway {

constexpr double kMaxSafeInteger = 9007199254740991.0;

// Throws the KernelError of native/types.ts. `detail` is appended to the message.
[[noreturn]] void throwErrno(Napi::Env env, const char* syscall, int error,
                             const std::string& path = {}, const std::string& detail = {});

// Returns `result` or throws what errno says when it is negative.
int check(Napi::Env env, int result, const char* syscall);

// Sets FD_CLOEXEC on an fd that the kernel made; most already carry it.
int closeOnExec(Napi::Env env, int fd, const char* syscall);

// Checked conversions. Each throws a TypeError that names `what`.
int32_t toInt(const Napi::Value& value, const char* what);
uint32_t toU32(const Napi::Value& value, const char* what);
uint64_t toU64(const Napi::Value& value, const char* what);     // from a JS number below 2^53
uint64_t toBits64(const Napi::Value& value, const char* what);  // from a bigint of 64 bits
bool toFlag(const Napi::Value& value, const char* what);
std::string toText(const Napi::Value& value, const char* what);
Napi::Object toObject(const Napi::Value& value, const char* what);
Napi::Array toArray(const Napi::Value& value, const char* what);

inline Napi::Value number(Napi::Env env, double value) { return Napi::Number::New(env, value); }
inline Napi::Value bits64(Napi::Env env, uint64_t value) { return Napi::BigInt::New(env, value); }
Napi::Value bytes(Napi::Env env, const void* data, size_t size);

// A kernel struct with a tail, zeroed and aligned: `Tailed<kvm_msrs>(n * sizeof(kvm_msr_entry))`.
template <typename Header>
class Tailed {
 public:
  explicit Tailed(size_t tailBytes) : words_((sizeof(Header) + tailBytes + 7) / 8 + 1, 0) {}
  Header* operator->() { return get(); }
  Header* get() { return reinterpret_cast<Header*>(words_.data()); }
  uint8_t* at(size_t offset) { return reinterpret_cast<uint8_t*>(words_.data()) + offset; }

 private:
  std::vector<uint64_t> words_;
};

using Callback = Napi::Value (*)(const Napi::CallbackInfo&);

template <Callback callback>
void expose(Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New<callback>(exports.Env(), name));
}

// The calls of the vCPU loop go through plain Node-API: no wrapper, no exception, no allocation.
void exposeRaw(Napi::Object exports, const char* name, napi_callback callback);
napi_value rawInt(napi_env env, int value);

}  // namespace causeway
