#include "watch.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "common.h"
#include "environment.h"
#include "exposed.h"

namespace causeway {
namespace {

struct Watch {
  int fd;
  EnvironmentWatches* owner;
  napi_threadsafe_function function;
  uint64_t pending;
};

// Everything that the epoll thread and the JavaScript threads share. The mutex is held whenever an
// fd is read or a thread-safe function is called, so neither can be gone at that moment. Never
// destroyed: the thread is detached.
struct Hub {
  std::mutex mutex;
  int epoll = -1;
  uint64_t nextId = 1;
  std::map<uint64_t, Watch> watches;
  std::map<EnvironmentWatches*, bool> scheduled;
};

Hub& hub() {
  static Hub* const instance = new Hub;
  return *instance;
}

void serve() {
  Hub& shared = hub();
  epoll_event events[64];
  for (;;) {
    const int ready = epoll_wait(shared.epoll, events, 64, -1);
    if (ready < 0) continue;
    const std::lock_guard<std::mutex> lock(shared.mutex);
    for (int i = 0; i < ready; i++) {
      const auto found = shared.watches.find(events[i].data.u64);
      if (found == shared.watches.end()) continue;
      Watch& watch = found->second;
      uint64_t count = 0;
      if (read(watch.fd, &count, sizeof count) != sizeof count) {
        // Not an eventfd after all, or a hang-up: one report would become an endless loop.
        if (errno != EAGAIN && errno != EINTR) {
          epoll_ctl(shared.epoll, EPOLL_CTL_DEL, watch.fd, nullptr);
        }
        continue;
      }
      watch.pending += count;
      bool& scheduled = shared.scheduled[watch.owner];
      if (!scheduled) {
        scheduled = napi_call_threadsafe_function(watch.function, nullptr, napi_tsfn_nonblocking) ==
                    napi_ok;
      }
    }
  }
}

void onDelivery(napi_env env, napi_value, void* context, void*) {
  if (env != nullptr) static_cast<EnvironmentWatches*>(context)->deliver();
}

void onClose(void* argument) { static_cast<EnvironmentWatches*>(argument)->close(); }

}  // namespace

void EnvironmentWatches::ensureFunction() {
  if (function_ != nullptr) return;
  Napi::Env env(env_);
  const Napi::String name = Napi::String::New(env, "causeway.watch");
  napi_status status = napi_create_threadsafe_function(env_, nullptr, nullptr, name, 0, 1, nullptr,
                                                       nullptr, this, onDelivery, &function_);
  NAPI_THROW_IF_FAILED_VOID(env, status);
  napi_unref_threadsafe_function(env_, function_);
  // Cleanup hooks run in reverse order: this one before the hook with which Node frees the
  // function.
  napi_add_env_cleanup_hook(env_, onClose, this);
}

void EnvironmentWatches::keepAlive(int change) {
  const bool before = keepAliveCount_ > 0;
  keepAliveCount_ += change;
  const bool after = keepAliveCount_ > 0;
  if (!before && after) napi_ref_threadsafe_function(env_, function_);
  if (before && !after) napi_unref_threadsafe_function(env_, function_);
}

void EnvironmentWatches::watch(int fd, Napi::Function listener, bool keepsAlive) {
  ensureFunction();
  Hub& shared = hub();
  uint64_t id = 0;
  {
    const std::lock_guard<std::mutex> lock(shared.mutex);
    if (shared.epoll < 0) {
      shared.epoll = check(env_, epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
      std::thread(serve).detach();
    }
    id = shared.nextId++;
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = id;
    // The entry must exist before the first event. A second watch of the same fd is EEXIST here.
    shared.watches[id] = Watch{fd, this, function_, 0};
    if (epoll_ctl(shared.epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
      const int error = errno;
      shared.watches.erase(id);
      throwErrno(env_, "epoll_ctl", error);
    }
  }
  listeners_[id] = Listener{fd, keepsAlive, Napi::Persistent(listener)};
  if (keepsAlive) keepAlive(1);
}

void EnvironmentWatches::unwatch(int fd) {
  for (auto entry = listeners_.begin(); entry != listeners_.end(); ++entry) {
    if (entry->second.fd != fd) continue;
    {
      Hub& shared = hub();
      const std::lock_guard<std::mutex> lock(shared.mutex);
      // Absent when another thread has closed the fd already.
      if (shared.watches.erase(entry->first) > 0)
        epoll_ctl(shared.epoll, EPOLL_CTL_DEL, fd, nullptr);
    }
    if (entry->second.keepAlive) keepAlive(-1);
    listeners_.erase(entry);
    return;
  }
}

void EnvironmentWatches::deliver() {
  std::vector<std::pair<uint64_t, uint64_t>> counts;
  {
    Hub& shared = hub();
    const std::lock_guard<std::mutex> lock(shared.mutex);
    shared.scheduled[this] = false;
    for (auto& [id, watch] : shared.watches) {
      if (watch.owner != this || watch.pending == 0) continue;
      counts.emplace_back(id, watch.pending);
      watch.pending = 0;
    }
  }
  Napi::Env env(env_);
  for (const auto& [id, count] : counts) {
    const auto found = listeners_.find(id);
    if (found == listeners_.end()) continue;  // an earlier listener of this round ended the watch
    const Napi::HandleScope scope(env);
    const napi_value argument = Napi::Number::New(env, static_cast<double>(count));
    const napi_value function = found->second.function.Value();
    const napi_value receiver = env.Undefined();
    if (napi_call_function(env, receiver, function, 1, &argument, nullptr) ==
        napi_pending_exception) {
      // One listener's exception is an uncaught one; the other listeners still get their counts.
      napi_value exception;
      napi_get_and_clear_last_exception(env, &exception);
      napi_fatal_exception(env, exception);
    }
  }
}

void EnvironmentWatches::close() {
  Hub& shared = hub();
  {
    const std::lock_guard<std::mutex> lock(shared.mutex);
    for (auto entry = shared.watches.begin(); entry != shared.watches.end();) {
      if (entry->second.owner == this) {
        epoll_ctl(shared.epoll, EPOLL_CTL_DEL, entry->second.fd, nullptr);
        entry = shared.watches.erase(entry);
      } else {
        ++entry;
      }
    }
    shared.scheduled.erase(this);
  }
  listeners_.clear();
  napi_release_threadsafe_function(function_, napi_tsfn_abort);
  function_ = nullptr;
}

void forgetWatchesOf(int fd) {
  Hub& shared = hub();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  const auto found = std::find_if(shared.watches.begin(), shared.watches.end(),
                                  [fd](const auto& entry) { return entry.second.fd == fd; });
  if (found == shared.watches.end()) return;
  epoll_ctl(shared.epoll, EPOLL_CTL_DEL, fd, nullptr);
  shared.watches.erase(found);
}

namespace {

Napi::Value watchFd(const Napi::CallbackInfo& info) {
  const int fd = toInt(info[0], "fd");
  if (!info[1].IsFunction())
    throw Napi::TypeError::New(info.Env(), "listener: expected a function");
  const bool keepsAlive = !info[2].IsUndefined() && toFlag(info[2], "keepAlive");
  environmentOf(info.Env()).watches.watch(fd, info[1].As<Napi::Function>(), keepsAlive);
  return info.Env().Undefined();
}

Napi::Value unwatchFd(const Napi::CallbackInfo& info) {
  environmentOf(info.Env()).watches.unwatch(toInt(info[0], "fd"));
  return info.Env().Undefined();
}

}  // namespace

void exposeWatch(Napi::Object exports) {
  expose<watchFd>(exports, "watch");
  expose<unwatchFd>(exports, "unwatch");
}

}  // namespace causeway
