// Running and kicking vCPUs.
#include "vcpu.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>

#include "common.h"
#include "exposed.h"
#include "memory.h"

namespace causeway {
namespace {

// Not SIGUSR1 (Node's debugger) nor SIGPROF (V8's profiler); glibc keeps the first two realtime
// signals to itself.
int kickSignal() { return SIGRTMIN + 6; }

// `state`: bit 0 says that `thread` is inside KVM_RUN; the rest counts kickers that are about to
// signal it. A thread leaves only when no kicker is left, so a signal never goes to a thread that
// ended.
struct Vcpu {
  explicit Vcpu(kvm_run* page) : run(page) {}
  kvm_run* const run;  // valid while the registry lists this vCPU
  std::atomic<uint32_t> state{0};
  pthread_t thread{};

  bool enter() {
    if (claimed.test_and_set(std::memory_order_acquire)) return false;
    thread = pthread_self();
    state.store(1);
    return true;
  }

  void leave() {
    state.fetch_and(~1U);
    while (state.load() != 0) sched_yield();
    claimed.clear(std::memory_order_release);
  }

  void kick() {
    __atomic_store_n(&run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    // Either this sees the thread inside and signals it, or the thread enters later and KVM sees
    // immediate_exit.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    uint32_t seen = state.load();
    do {
      if ((seen & 1) == 0) return;
    } while (!state.compare_exchange_weak(seen, seen + 2));
    pthread_kill(thread, kickSignal());
    state.fetch_sub(2);
  }

 private:
  std::atomic_flag claimed = ATOMIC_FLAG_INIT;  // two threads never run one vCPU
};

struct Registry {
  std::mutex mutex;
  std::map<int, std::shared_ptr<Vcpu>> vcpus;  // by fd
  std::atomic<uint64_t> version{
      1};  // moves with every change, so that threads can cache their vCPU
  std::atomic<bool> exiting{false};
};

Registry& registry() {
  static Registry* const instance = new Registry;
  return *instance;
}

void onKick(int) {}

void installKickSignal() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action{};
    action.sa_handler = onKick;
    action.sa_flags = SA_ONSTACK;  // and not SA_RESTART: KVM_RUN must return EINTR
    sigemptyset(&action.sa_mask);
    sigaction(kickSignal(), &action, nullptr);
  });
}

// The vCPU of the last call on this thread: a lookup costs one load as long as no vCPU comes or
// goes.
struct Cache {
  uint64_t version = 0;
  int fd = -1;
  std::shared_ptr<Vcpu> vcpu;
};
thread_local Cache cache;

Vcpu* findCached(int fd) {
  Registry& shared = registry();
  const uint64_t version = shared.version.load(std::memory_order_acquire);
  if (cache.version == version && cache.fd == fd) return cache.vcpu.get();
  // This thread's signal mask came from whoever created it.
  sigset_t unblocked;
  sigemptyset(&unblocked);
  sigaddset(&unblocked, kickSignal());
  pthread_sigmask(SIG_UNBLOCK, &unblocked, nullptr);
  const std::lock_guard<std::mutex> lock(shared.mutex);
  const auto found = shared.vcpus.find(fd);
  cache.vcpu = found == shared.vcpus.end() ? nullptr : found->second;
  cache.fd = fd;
  cache.version = shared.version.load(std::memory_order_relaxed);
  return cache.vcpu.get();
}

napi_value vcpuRun(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argv[1];
  int32_t fd = -1;
  if (napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr) != napi_ok ||
      napi_get_value_int32(env, argv[0], &fd) != napi_ok) {
    return rawInt(env, -EINVAL);
  }
  Vcpu* const vcpu = findCached(fd);
  if (vcpu == nullptr) return rawInt(env, -EBADF);
  if (!vcpu->enter()) return rawInt(env, -EBUSY);
  // After `enter`: the exit of the process kicks whoever is inside and stops whoever comes.
  if (registry().exiting.load()) {
    vcpu->leave();
    return rawInt(env, -EINTR);
  }
  const int result = ioctl(fd, KVM_RUN, 0) < 0 ? -errno : 0;
  vcpu->leave();
  return rawInt(env, result);
}

Napi::Value vcpuKick(const Napi::CallbackInfo& info) {
  const int fd = toInt(info[0], "vcpu");
  Registry& shared = registry();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  const auto found = shared.vcpus.find(fd);
  if (found == shared.vcpus.end()) throwErrno(info.Env(), "vcpuKick", EBADF);
  found->second->kick();
  return info.Env().Undefined();
}

// The process is about to exit: Node joins its workers first, and a worker inside a guest would
// never come back.
Napi::Value stopAllVcpus(const Napi::CallbackInfo& info) {
  Registry& shared = registry();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  shared.exiting.store(true);
  for (auto& [fd, vcpu] : shared.vcpus) vcpu->kick();
  return info.Env().Undefined();
}

Napi::Value vcpuMapRun(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int kvm = toInt(info[0], "kvm");
  const int vcpu = toInt(info[1], "vcpu");
  const auto size = static_cast<size_t>(
      check(env, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE"));
  void* const address = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  if (address == MAP_FAILED) throwErrno(env, "mmap", errno, {}, "kvm_run");
  madvise(address, size, MADV_DONTFORK);
  recordMapping(static_cast<uint8_t*>(address), size);
  installKickSignal();
  recordVcpu(vcpu, static_cast<kvm_run*>(address));
  Napi::Object result = Napi::Object::New(env);
  result.Set("hva", static_cast<double>(reinterpret_cast<uintptr_t>(address)));
  result.Set("sizeBytes", static_cast<double>(size));
  return result;
}

template <typename Predicate>
void forget(Predicate matches) {
  Registry& shared = registry();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  for (auto entry = shared.vcpus.begin(); entry != shared.vcpus.end(); ++entry) {
    if (!matches(*entry)) continue;
    shared.vcpus.erase(entry);
    shared.version.fetch_add(1, std::memory_order_release);
    return;
  }
}

}  // namespace

void recordVcpu(int fd, kvm_run* run) {
  Registry& shared = registry();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  shared.vcpus[fd] = std::make_shared<Vcpu>(run);
  shared.version.fetch_add(1, std::memory_order_release);
}

void forgetVcpuFd(int fd) {
  forget([fd](const auto& entry) { return entry.first == fd; });
}

void forgetVcpuRun(uint64_t hva) {
  forget(
      [hva](const auto& entry) { return reinterpret_cast<uintptr_t>(entry.second->run) == hva; });
}

void exposeVcpu(Napi::Object exports) {
  exposeRaw(exports, "vcpuRun", vcpuRun);
  expose<vcpuKick>(exports, "vcpuKick");
  expose<stopAllVcpus>(exports, "stopAllVcpus");
  expose<vcpuMapRun>(exports, "vcpuMapRun");
}

}  // namespace causeway
