#include "memory.h"

#include <atomic>
#include <cstdlib>

namespace mmflow {
namespace {

constexpr std::size_t kSmallest = 32 << 10;  // below, malloc does as well
constexpr std::size_t kLargest = 8 << 20;
constexpr std::size_t kMost = 32 << 20;
constexpr std::size_t kBlocks = 128;

struct Kept {
    std::uint8_t* block;
    std::size_t capacity;
};

std::atomic_flag busy = ATOMIC_FLAG_INIT;
Kept kept[kBlocks];
std::size_t count = 0;
std::size_t total = 0;

// A few dozen instructions are done while it is held.
struct Lock {
    Lock() noexcept {
        while (busy.test_and_set(std::memory_order_acquire)) {
        }
    }
    ~Lock() { busy.clear(std::memory_order_release); }
};

}  // namespace

std::uint8_t* take_block(std::size_t needed, std::size_t& capacity) noexcept {
    if (needed >= kSmallest && needed <= kLargest) {
        const Lock lock;
        // The last that was given back is the most likely one to be in cache.
        for (std::size_t i = count; i-- > 0;) {
            if (kept[i].capacity < needed || kept[i].capacity / 4 > needed) continue;
            const Kept found = kept[i];
            kept[i] = kept[--count];
            total -= found.capacity;
            capacity = found.capacity;
            return found.block;
        }
    }
    const std::size_t rounded = (needed + 63) / 64 * 64;
    capacity = rounded;
    return static_cast<std::uint8_t*>(std::malloc(rounded));
}

void give_block(std::uint8_t* block, std::size_t capacity) noexcept {
    if (capacity >= kSmallest && capacity <= kLargest) {
        const Lock lock;
        if (count < kBlocks && total + capacity <= kMost) {
            kept[count++] = {block, capacity};
            total += capacity;
            return;
        }
    }
    std::free(block);
}

}  // namespace mmflow
