#include "guard.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>

namespace mmflow {
namespace {

// Far more windows than tasks hold at once; a kernel's max_map_count is 65,530 by default.
constexpr std::size_t kSlots = 1 << 16;

struct Slot {
    std::atomic<std::uintptr_t> begin{0};  // 0: free
    std::atomic<std::uintptr_t> end{0};
    std::atomic<bool> hit{false};
};

Slot slots[kSlots];
std::atomic<std::size_t> used{0};  // slots ever in use: the handler searches no further
std::atomic<std::size_t> watched{0};
std::mutex writers;
std::size_t free_list[kSlots];
std::size_t free_count = 0;

struct sigaction previous;
std::atomic<pthread_t> passing{};  // the thread that is forwarding a fault
std::uintptr_t page_mask = 0;

void restore_default(int signal) {
    // With the default handler, the instruction faults again, and the process dies.
    struct sigaction fatal {};
    fatal.sa_handler = SIG_DFL;
    sigaction(signal, &fatal, nullptr);
}

void forward(int signal, siginfo_t* info, void* context) {
    if (previous.sa_flags & SA_SIGINFO) {
        previous.sa_sigaction(signal, info, context);
        return;
    }
    if (previous.sa_handler == SIG_IGN) return;
    if (previous.sa_handler != SIG_DFL) {
        previous.sa_handler(signal);
        return;
    }
    restore_default(signal);
}

// Handles a fault outside of all windows. The handler before ours may pass it back to us (Python's faulthandler does,
// once it has printed the traceback): then the default handler is the only one left.
void handle_foreign(int signal, siginfo_t* info, void* context) {
    const pthread_t self = pthread_self();
    if (passing.load() == self) {
        restore_default(signal);
        return;
    }
    passing.store(self);
    forward(signal, info, context);
    passing.store(pthread_t{});
}

void handle_fault(int signal, siginfo_t* info, void* context) {
    const int saved = errno;
    const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
    const std::size_t count = used.load(std::memory_order_acquire);
    for (std::size_t i = 0; i < count; ++i) {
        const std::uintptr_t begin = slots[i].begin.load(std::memory_order_acquire);
        if (begin == 0 || address < begin || address >= slots[i].end.load(std::memory_order_acquire)) continue;
        void* page = reinterpret_cast<void*>(address & page_mask);
        const std::size_t size = static_cast<std::size_t>(~page_mask) + 1;
        void* zeros = mmap(page, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (zeros == MAP_FAILED) break;
        slots[i].hit.store(true, std::memory_order_release);
        errno = saved;
        return;
    }
    errno = saved;
    handle_foreign(signal, info, context);
}

// With the lock.
int install() noexcept {
    page_mask = ~(static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE)) - 1);
    struct sigaction current {};
    if (sigaction(SIGBUS, nullptr, &current) != 0) return errno;
    if ((current.sa_flags & SA_SIGINFO) && current.sa_sigaction == handle_fault) return 0;
    previous = current;
    struct sigaction ours {};
    ours.sa_sigaction = handle_fault;
    // SA_ONSTACK: runs on an alternate stack where a thread has one; SA_NODEFER: a fault in an earlier handler
    // that we pass on to must not block.
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&ours.sa_mask);
    return sigaction(SIGBUS, &ours, nullptr) != 0 ? errno : 0;
}

}  // namespace

int guard_install() noexcept {
    std::lock_guard<std::mutex> lock(writers);
    return install();
}

std::int64_t guard_register(std::uintptr_t address, std::size_t length) noexcept {
    std::lock_guard<std::mutex> lock(writers);
    install();  // another library may have installed a handler over ours: ray.init enables faulthandler
    std::size_t index = used.load(std::memory_order_relaxed);
    if (free_count > 0) {
        index = free_list[--free_count];
    } else if (index == kSlots) {
        return -1;
    }
    slots[index].hit.store(false, std::memory_order_relaxed);
    slots[index].end.store(address + length, std::memory_order_release);
    slots[index].begin.store(address, std::memory_order_release);
    if (index == used.load(std::memory_order_relaxed)) used.store(index + 1, std::memory_order_release);
    watched.fetch_add(1);
    return static_cast<std::int64_t>(index);
}

void guard_release(std::int64_t token) noexcept {
    if (token < 0 || static_cast<std::size_t>(token) >= kSlots) return;
    std::lock_guard<std::mutex> lock(writers);
    Slot& slot = slots[token];
    if (slot.begin.load(std::memory_order_relaxed) == 0) return;
    slot.begin.store(0, std::memory_order_release);
    free_list[free_count++] = static_cast<std::size_t>(token);
    watched.fetch_sub(1);
}

bool guard_hit(std::int64_t token) noexcept {
    if (token < 0 || static_cast<std::size_t>(token) >= kSlots) return false;
    return slots[token].hit.load(std::memory_order_acquire);
}

std::size_t guard_count() noexcept { return watched.load(); }

}  // namespace mmflow
