// Limits of this process.
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <limits>

#include "common.h"
#include "exposed.h"

namespace causeway {
namespace {

int limitOf(const Napi::Value& value) {
  const std::string which = toText(value, "which");
  if (which == "memlock") return RLIMIT_MEMLOCK;
  if (which == "nofile") return RLIMIT_NOFILE;
  throw Napi::TypeError::New(value.Env(), "which: expected 'memlock' or 'nofile'");
}

double toJs(rlim_t limit) {
  return limit == RLIM_INFINITY ? std::numeric_limits<double>::infinity()
                                : static_cast<double>(limit);
}

rlim_t fromJs(const Napi::Value& value, const char* what) {
  if (value.IsNumber() && std::isinf(value.As<Napi::Number>().DoubleValue())) return RLIM_INFINITY;
  return toU64(value, what);
}

Napi::Value resourceLimit(const Napi::CallbackInfo& info) {
  rlimit limit{};
  check(info.Env(), getrlimit(static_cast<__rlimit_resource>(limitOf(info[0])), &limit),
        "getrlimit");
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("soft", toJs(limit.rlim_cur));
  result.Set("hard", toJs(limit.rlim_max));
  return result;
}

Napi::Value setResourceLimit(const Napi::CallbackInfo& info) {
  const rlimit limit{fromJs(info[1], "soft"), fromJs(info[2], "hard")};
  check(info.Env(), setrlimit(static_cast<__rlimit_resource>(limitOf(info[0])), &limit),
        "setrlimit");
  return info.Env().Undefined();
}

}  // namespace

void exposeProcess(Napi::Object exports) {
  exports.Set("pageSizeBytes", static_cast<double>(sysconf(_SC_PAGESIZE)));
  expose<resourceLimit>(exports, "resourceLimit");
  expose<setResourceLimit>(exports, "setResourceLimit");
}

}  // namespace causeway
