// What one JavaScript thread (a Node-API environment) owns: its watches and its views of mappings.
// The main thread and every worker have one; it dies with the thread.
#pragma once

#include <napi.h>

#include "memory.h"
#include "watch.h"

namespace causeway {

struct Environment {
  explicit Environment(napi_env env) : watches(env), views(env) {}
  EnvironmentWatches watches;
  EnvironmentViews views;
};

Environment& environmentOf(Napi::Env env);

}  // namespace causeway
