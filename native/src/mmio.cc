// Single accesses of an exact width to mapped device memory.
#include <setjmp.h>
#include <signal.h>

#include <mutex>

#include "common.h"
#include "exposed.h"
#include "memory.h"

namespace causeway {
namespace {

// A BAR that the device revoked (memory decode off, D3, reset) raises SIGBUS. The handler forgives
// only accesses that announced themselves here. Initial-exec, because a signal handler must not
// allocate thread-local storage; volatile, because the compiler sees nobody who reads it between
// the two stores around the access.
__attribute__((tls_model("initial-exec"))) thread_local sigjmp_buf* volatile armed = nullptr;
struct sigaction previousAction;

void onBusError(int signal, siginfo_t* details, void* context) {
  if (armed != nullptr) siglongjmp(*armed, 1);
  if ((previousAction.sa_flags & SA_SIGINFO) != 0 && previousAction.sa_sigaction != nullptr) {
    previousAction.sa_sigaction(signal, details, context);
  } else if (previousAction.sa_handler != SIG_DFL && previousAction.sa_handler != SIG_IGN) {
    previousAction.sa_handler(signal);
  } else {
    sigaction(SIGBUS, &previousAction,
              nullptr);  // the access is repeated and kills, as it would without us
  }
}

void catchBusErrors() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action{};
    action.sa_sigaction = onBusError;
    // The mask is not saved by sigsetjmp below, so SIGBUS must not be blocked while it is handled.
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &previousAction);
  });
}

// No object with a destructor may live in here: siglongjmp skips it.
__attribute__((noinline)) bool accessOnce(volatile void* address, uint32_t width, bool write,
                                          uint64_t* value) {
  sigjmp_buf jump;
  if (sigsetjmp(jump, 0) != 0) {
    armed = nullptr;
    return false;
  }
  armed = &jump;
  switch (width) {
#define ACCESS(bytes, type)                                              \
  case bytes:                                                            \
    if (write)                                                           \
      *static_cast<volatile type*>(address) = static_cast<type>(*value); \
    else                                                                 \
      *value = *static_cast<volatile type*>(address);                    \
    break;
    ACCESS(1, uint8_t)
    ACCESS(2, uint16_t)
    ACCESS(4, uint32_t)
    ACCESS(8, uint64_t)
#undef ACCESS
    default:
      break;
  }
  armed = nullptr;
  return true;
}

Napi::Value access(const Napi::CallbackInfo& info, bool write) {
  const Napi::Env env = info.Env();
  const char* const name = write ? "mmioWrite" : "mmioRead";
  const uint64_t address = toU64(info[0], "hva") + toU64(info[1], "offset");
  const uint32_t width = toU32(info[2], "width");
  uint64_t value = write ? toBits64(info[3], "value") : 0;
  if (width != 1 && width != 2 && width != 4 && width != 8)
    throwErrno(env, name, EINVAL, {}, "width");
  // A misaligned access would not be a single one on the bus.
  if (address % width != 0) throwErrno(env, name, EINVAL, {}, "misaligned");
  const std::shared_ptr<Mapping> mapping = findMapping(address, width);
  if (mapping == nullptr) throwErrno(env, name, EFAULT, {}, "not inside a recorded mapping");
  catchBusErrors();
  if (!accessOnce(reinterpret_cast<volatile void*>(address), width, write, &value)) {
    throwErrno(env, name, EIO, {}, "the mapping is revoked (SIGBUS)");
  }
  return write ? env.Undefined() : bits64(env, value);
}

Napi::Value mmioRead(const Napi::CallbackInfo& info) { return access(info, false); }
Napi::Value mmioWrite(const Napi::CallbackInfo& info) { return access(info, true); }

}  // namespace

void exposeMmio(Napi::Object exports) {
  expose<mmioRead>(exports, "mmioRead");
  expose<mmioWrite>(exports, "mmioWrite");
}

}  // namespace causeway
