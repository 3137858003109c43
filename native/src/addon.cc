// Entry: fills the exports of one environment. Runs once per thread that loads the addon.
#include "common.h"
#include "environment.h"
#include "exposed.h"

namespace causeway {

Environment& environmentOf(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

namespace {

void onEnvironmentEnd(void* argument) { static_cast<Environment*>(argument)->views.close(); }

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* const environment = new Environment(env);
  env.SetInstanceData(environment);
  napi_add_env_cleanup_hook(env, onEnvironmentEnd, environment);
  exposeFd(exports);
  exposeWatch(exports);
  exposeMemory(exports);
  exposeMmio(exports);
  exposeKvm(exports);
  exposeVcpu(exports);
  exposeVcpuState(exports);
  exposeVfio(exports);
  exposeIommufd(exports);
  exposeProcess(exports);
  exposeLayout(exports);
  return exports;
}

}  // namespace
}  // namespace causeway

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  return causeway::init(env, exports);
}
NODE_API_MODULE(causeway, Init)
