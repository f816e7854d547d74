// A split, then doubles: their exact sum is the same in both orders, and from the states of the parts. What is no state
// is refused or added, but never read beyond its end.
#include "aggregate/exact_sum.h"
#include "fuzzing.h"

using namespace mmflow;

namespace {

struct Total {
    FloatSums sums;

    Total() { sums.resize(1); }
    void add(const double* values, std::size_t count, bool backwards) {
        for (std::size_t i = 0; i < count; ++i) sums.add(*sums.data(), values[backwards ? count - 1 - i : i]);
    }
    void merge(Total& other) {
        std::vector<std::uint8_t> state;
        other.sums.write(0, state);
        if (!sums.merge(0, state.data(), state.size())) std::abort();
    }
    void same(const Total& other) const {
        const double sum = sums.total(0), wanted = other.sums.total(0);
        if (std::memcmp(&sum, &wanted, 8) != 0 || sums.count(0) != other.sums.count(0)) std::abort();
        if (sums.count(0) == 0) return;
        const double mean = sums.mean(0), wanted_mean = other.sums.mean(0);
        if (std::memcmp(&mean, &wanted_mean, 8) != 0) std::abort();
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t length) {
    fuzzing::Input input(bytes, length);
    const std::size_t split = input.byte();
    std::size_t size = 0;
    const auto data = input.rest(size);
    std::vector<double> values(size / 8);
    if (!values.empty()) std::memcpy(values.data(), data.get(), values.size() * 8);
    const std::size_t first = values.empty() ? 0 : split % values.size();
    Total forwards, backwards, begin, end, merged;
    forwards.add(values.data(), values.size(), false);
    backwards.add(values.data(), values.size(), true);
    begin.add(values.data(), first, false);
    end.add(values.data() + first, values.size() - first, false);
    merged.merge(end);
    merged.merge(begin);
    backwards.same(forwards);
    merged.same(forwards);
    if (forwards.sums.merge(0, data.get(), size)) static_cast<void>(forwards.sums.total(0));
    return 0;
}
