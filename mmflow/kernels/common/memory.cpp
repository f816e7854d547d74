#include "common/memory.h"

#include <atomic>
#include <cstdlib>

namespace mmflow {
namespace {

constexpr std::size_t kMinBlock = 32 << 10;  // below it, malloc is as fast
constexpr std::size_t kMaxBlock = 8 << 20;
constexpr std::size_t kMaxTotal = 32 << 20;
constexpr std::size_t kMaxBlocks = 128;

struct FreeBlock {
    std::uint8_t* block;
    std::size_t capacity;
};

std::atomic_flag busy;
FreeBlock free_blocks[kMaxBlocks];
std::size_t count = 0;
std::size_t total = 0;

// Spins: it is held for a few dozen instructions.
struct Lock {
    Lock() noexcept {
        while (busy.test_and_set(std::memory_order_acquire)) {
        }
    }
    ~Lock() { busy.clear(std::memory_order_release); }
};

}  // namespace

std::uint8_t* allocate_block(std::size_t needed, std::size_t& capacity) noexcept {
    if (needed >= kMinBlock && needed <= kMaxBlock) {
        const Lock lock;
        // The block freed last is the most likely one to be in cache.
        for (std::size_t i = count; i-- > 0;) {
            if (free_blocks[i].capacity < needed || free_blocks[i].capacity / 4 > needed) continue;
            const FreeBlock found = free_blocks[i];
            free_blocks[i] = free_blocks[--count];
            total -= found.capacity;
            capacity = found.capacity;
            return found.block;
        }
    }
    const std::size_t rounded = (needed + 63) / 64 * 64;
    capacity = rounded;
    return static_cast<std::uint8_t*>(std::malloc(rounded));
}

void free_block(std::uint8_t* block, std::size_t capacity) noexcept {
    if (capacity >= kMinBlock && capacity <= kMaxBlock) {
        const Lock lock;
        if (count < kMaxBlocks && total + capacity <= kMaxTotal) {
            free_blocks[count++] = {block, capacity};
            total += capacity;
            return;
        }
    }
    std::free(block);
}

}  // namespace mmflow
