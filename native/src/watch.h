// Watches of eventfds. One epoll thread serves the process; each environment has one thread-safe
// function.
#pragma once

#include <napi.h>

#include <cstdint>
#include <map>

namespace causeway {

// The part of the watches that only the environment's own thread touches.
class EnvironmentWatches {
 public:
  explicit EnvironmentWatches(napi_env env) : env_(env) {}
  void watch(int fd, Napi::Function listener, bool keepAlive);
  void unwatch(int fd);
  // Calls the listeners that have counts pending.
  void deliver();
  // The environment ends: forgets everything before Node frees the thread-safe function.
  void close();

 private:
  struct Listener {
    int fd;
    bool keepAlive;
    Napi::FunctionReference function;
  };
  void ensureFunction();
  void keepAlive(int change);

  napi_env env_;
  napi_threadsafe_function function_ = nullptr;
  int keepAliveCount_ = 0;
  std::map<uint64_t, Listener> listeners_;  // by watch id
};

// An fd is about to be closed: nobody may read it afterwards, its number may be reused.
void forgetWatchesOf(int fd);

}  // namespace causeway
