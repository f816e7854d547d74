// Conversion of bits to positions, for instruction sets without an instruction for it.
#pragma once
#include <cstdint>

namespace mmflow::MMFLOW_ARCH {

// Writes base + i for each bit i, and up to 32 meaningless entries behind them.
inline std::uint32_t* write_positions(std::uint32_t* out, std::uint64_t bits, std::uint32_t base) noexcept {
    const int count = __builtin_popcountll(bits);
    // In steps of twelve, each without a branch: a block of common text holds about as many.
    for (int done = 0; done < count; done += 12) {
        for (int i = 0; i < 12; ++i) {
            out[done + i] = base + lowest_bit(bits);
            bits &= bits - 1;
        }
    }
    return out + count;
}

}  // namespace mmflow::MMFLOW_ARCH
