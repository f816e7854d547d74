#include <cstdint>

#include "sort/row_order.h"

namespace mmflow {
namespace {

// Rows [begin, end) of an order: a partition, and within it rows that are equal in all keys.
struct Peers {
    std::size_t partition, partition_end, begin, end, number;  // `number`: of those before it in the partition
};

void write(const WindowCall& call, const std::uint32_t* order, const Peers& at) noexcept {
    auto* counts = static_cast<std::uint64_t*>(call.out);
    auto* shares = static_cast<double*>(call.out);
    auto* places = static_cast<std::int64_t*>(call.out);
    const auto size = at.partition_end - at.partition;
    const auto all = [&](auto* out, auto value) {
        for (std::size_t i = at.begin; i < at.end; ++i) out[order[i]] = value;
    };
    switch (call.function) {
        case WindowFunction::kRowNumber:
            for (std::size_t i = at.begin; i < at.end; ++i) counts[order[i]] = i - at.partition + 1;
            return;
        case WindowFunction::kRank: return all(counts, std::uint64_t{at.begin - at.partition + 1});
        case WindowFunction::kDenseRank: return all(counts, std::uint64_t{at.number + 1});
        case WindowFunction::kPercentRank:
            return all(shares, size > 1 ? static_cast<double>(at.begin - at.partition) / static_cast<double>(size - 1) : 0.0);
        case WindowFunction::kCumeDist:
            return all(shares, static_cast<double>(at.end - at.partition) / static_cast<double>(size));
        case WindowFunction::kLag:
        case WindowFunction::kLead: {
            // Distances are compared as they are: one may be larger than any place.
            const std::int64_t rows = call.function == WindowFunction::kLag ? call.rows : -call.rows;
            const auto least = static_cast<std::int64_t>(at.partition), end = static_cast<std::int64_t>(at.partition_end);
            for (std::size_t i = at.begin; i < at.end; ++i) {
                const auto place = static_cast<std::int64_t>(i);
                const bool there = rows >= 0 ? place - least >= rows : end - place > -rows;
                places[order[i]] = there ? std::int64_t{order[place - rows]} : -1;
            }
            return;
        }
        case WindowFunction::kFirst: return all(places, std::int64_t{order[at.partition]});
        case WindowFunction::kLast: return all(places, std::int64_t{order[at.end - 1]});
        case WindowFunction::kPartitionLast: return all(places, std::int64_t{order[at.partition_end - 1]});
        case WindowFunction::kCount: return;
    }
}

}  // namespace

void compute_windows(const RowOrder& order, std::size_t partition_keys, std::size_t keys,
                     const std::vector<WindowCall>& calls) {
    const std::uint32_t* rows = order.order();
    const std::vector<std::uint8_t> starts = order.starts(partition_keys), differs = order.starts(keys);
    const std::size_t count = order.rows();
    for (std::size_t begin = 0; begin < count;) {
        std::size_t end = begin + 1;
        while (end < count && starts[end] == 0) ++end;
        Peers at{begin, end, begin, begin, 0};
        for (; at.begin < end; at.begin = at.end, ++at.number) {
            at.end = at.begin + 1;
            while (at.end < end && differs[at.end] == 0) ++at.end;
            for (const WindowCall& call : calls) write(call, rows, at);
        }
        begin = end;
    }
}

}  // namespace mmflow
