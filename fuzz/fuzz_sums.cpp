// A split, then doubles: their exact sum, mean and variance are the same in both orders, and from the states of the parts.
// What is no state is refused or added, but never read beyond its end.
#include "aggregate/moments.h"
#include "fuzzing.h"

using namespace mmflow;

namespace {

struct Total {
    FloatSums sums;
    FloatSum sum;
    MomentSums all_moments;
    Moments moments;

    void add(const double* values, std::size_t count, bool backwards) {
        for (std::size_t i = 0; i < count; ++i) {
            const double value = values[backwards ? count - 1 - i : i];
            sums.add(sum, value);
            all_moments.add(moments, value);
        }
    }
    void merge(Total& other) {
        std::vector<std::uint8_t> state;
        other.sums.write(other.sum, state);
        if (!sums.merge(sum, state.data(), state.size())) std::abort();
        state.clear();
        other.all_moments.write(other.moments, state);
        if (!all_moments.merge(moments, state.data(), state.size())) std::abort();
    }
    static void same(double a, double b) {
        if (std::memcmp(&a, &b, 8) != 0) std::abort();
    }
    void same(const Total& other) const {
        same(sums.total(sum), other.sums.total(other.sum));
        if (sum.count != other.sum.count || moments.sum.count != sum.count) std::abort();
        if (sum.count == 0) return;
        same(sums.mean(sum), other.sums.mean(other.sum));
        same(all_moments.variance(moments, false), other.all_moments.variance(other.moments, false));
        if (sum.count > 1) same(all_moments.variance(moments, true), other.all_moments.variance(other.moments, true));
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
    if (forwards.sums.merge(forwards.sum, data.get(), size)) static_cast<void>(forwards.sums.total(forwards.sum));
    if (forwards.all_moments.merge(forwards.moments, data.get(), size) && forwards.moments.sum.count > 0)
        static_cast<void>(forwards.all_moments.variance(forwards.moments, false));
    return 0;
}
