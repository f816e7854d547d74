// Memory for tables of groups, in huge pages where it is large: they fault in at once, and random access finds them sooner.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace mmflow {

struct FreeWords {
    void operator()(std::uint64_t* words) const noexcept { std::free(words); }
};
using Words = std::unique_ptr<std::uint64_t[], FreeWords>;

// Returns words that are not set.
inline Words allocate_words(std::size_t count) {
    constexpr std::size_t kHuge = 2 << 20, kLarge = 2 * kHuge;
    const std::size_t bytes = count * 8;
    const bool large = bytes >= kLarge;
    void* const made = large ? std::aligned_alloc(kHuge, (bytes + kHuge - 1) / kHuge * kHuge) : std::malloc(bytes);
    if (made == nullptr) throw std::bad_alloc();
#if defined(__linux__)
    if (large) madvise(made, bytes, MADV_HUGEPAGE);  // where there are none, pages stay small
#endif
    return Words(static_cast<std::uint64_t*>(made));
}

}  // namespace mmflow
