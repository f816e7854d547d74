#include "scan/loop.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <new>

#include "common/arrow_c.h"
#include "common/columns.h"

namespace mmflow {
namespace {

using Clock = std::chrono::steady_clock;

// Who waits for the thread of the caller, or wants to stop it, waits no longer.
constexpr std::chrono::milliseconds kLongest{100};

struct Release {
    void operator()(ArrowArray* array) const noexcept {
        if (array->release != nullptr) array->release(array);
        std::free(array);
    }
};
using HeldArray = std::unique_ptr<ArrowArray, Release>;

// Text outlives the arrays of the loop.
constexpr Owner kNoOwner{nullptr, [](void*) noexcept {}, [](void*) noexcept {}};

// Takes columns; `array` becomes the rows to aggregate. False where the program needs its fallback.
bool run_program(program::Program* program, HeldArray& array) {
    if (program == nullptr) return true;
    const auto rows = static_cast<std::size_t>(array->length);
    const program::Result made = program->run(*array, rows, program::Passed::kCopied);
    if (made.status == Status::kNoMemory) throw std::bad_alloc();
    if (made.status == Status::kNeedsFallback) return false;
    array.reset(made.array);
    return true;
}

}  // namespace

LoopResult aggregate_records(RecordReader& reader, program::Program* program, Aggregator& aggregator,
                             const LoopText& text, const LoopLimits& limits) {
    LoopResult result;
    const std::size_t end = std::min(text.size, text.stop);
    const Clock::time_point begun = Clock::now();
    while (result.consumed < end) {
        const std::uint8_t* data = text.data + result.consumed;
        const std::size_t size = text.size - result.consumed, stop = text.stop - result.consumed;
        Columns columns(reader.targets());
        const RecordsResult read =
            reader.read(data, size, stop, text.final, limits.batch_bytes, columns.list.data(), columns.offsets);
        if (read.status == Status::kNoMemory) throw std::bad_alloc();
        if (read.rows != 0) {
            HeldArray rows(to_arrow(columns.list.data(), columns.list.size(), read.rows, data, size, kNoOwner));
            if (rows == nullptr) throw std::bad_alloc();
            if (!run_program(program, rows)) break;
            if (rows->length != 0) aggregator.update(*rows);
        }
        result.consumed += read.consumed;
        result.records += read.records;
        result.lines += read.lines;
        result.rows += read.rows;
        if (read.status == Status::kNeedsFallback || read.consumed == 0) break;
        if (aggregator.bytes() > limits.group_bytes || Clock::now() - begun > kLongest) break;
    }
    return result;
}

}  // namespace mmflow
