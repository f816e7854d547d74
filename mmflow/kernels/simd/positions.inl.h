// Conversion of bits to positions, for instruction sets without an instruction for it.
#pragma once
#include <cstdint>

namespace mmflow::MMFLOW_ARCH {

// Writes base + i for each bit i, and up to 32 meaningless entries behind them.
inline std::uint32_t* write_positions(std::uint32_t* out, std::uint64_t bits, std::uint32_t base) noexcept {
    const int count = __builtin_popcountll(bits);
    // In steps of four, each without a branch, the first one always: whether a block has any bit is hard to predict.
    int done = 0;
    do {
        for (int i = 0; i < 4; ++i) {
            // Volatile: GCC else gathers them in a vector register, which takes longer than four stores.
            const_cast<volatile std::uint32_t*>(out)[done + i] = base + lowest_bit(bits);
            bits &= bits - 1;
        }
        done += 4;
    } while (done < count);
    return out + count;
}

}  // namespace mmflow::MMFLOW_ARCH
