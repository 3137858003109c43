// The process-wide record of mappings, and each environment's ArrayBuffers over them.
#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>

namespace causeway {

// munmaps when the last holder lets go: the record itself (until `unmap`) and every live view of
// any thread.
struct Mapping {
  Mapping(uint8_t* address, size_t size) : base(address), sizeBytes(size) {}
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  uint8_t* const base;
  const size_t sizeBytes;
};

// Records a fresh mapping; from now on `unmap` of its address ends it.
void recordMapping(uint8_t* base, size_t sizeBytes);

// The recorded mapping that contains [hva, hva + sizeBytes), or null.
std::shared_ptr<Mapping> findMapping(uint64_t hva, uint64_t sizeBytes);

class EnvironmentViews {
 public:
  explicit EnvironmentViews(napi_env env) : env_(env) {}
  Napi::Value view(uint64_t hva, uint64_t sizeBytes);
  void detach(const uint8_t* base);
  // The environment ends: its views hold nothing any more.
  void close();

 private:
  struct View;
  static void finalize(napi_env env, void* data, void* hint);

  napi_env env_;
  std::list<View*> views_;
};

}  // namespace causeway
