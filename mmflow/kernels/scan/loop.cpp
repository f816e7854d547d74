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

// Reads records whose keys are known straight to groups, as long as this pays.
class KnownRecords {
   public:
    KnownRecords(RecordReader& reader, Aggregator& aggregator, bool wanted)
        : reader_(reader), aggregator_(aggregator), columns_(reader.targets()), wanted_(wanted) {}

    // Whether to try so next, rather than to decode columns.
    bool pays() noexcept {
        if (!wanted_ || aggregator_.known_texts() == nullptr) return false;
        if (pause_ == 0) return true;
        --pause_;
        return false;
    }

    RecordsResult take(const std::uint8_t* data, std::size_t size, std::size_t stop, bool final) {
        const std::size_t key = aggregator_.known_key();
        const RecordsResult read = reader_.read_known(key, aggregator_.known_texts()->table(), data, size, stop, final,
                                                      columns_.list.data());
        if (read.status == Status::kNoMemory) throw std::bad_alloc();
        if (read.rows != 0) {
            std::vector<const std::uint8_t*> values;
            for (const Column& column : columns_.list) values.push_back(column.values.data);
            aggregator_.update_known(reinterpret_cast<const std::uint32_t*>(values[key]), values, read.rows);
        }
        taken_ += read.rows;
        if (read.status == Status::kNeedsFallback) {
            skipped_ = taken_ < kFew ? std::min(2 * skipped_ + 1, kMost) : 1;
            pause_ = skipped_;
            taken_ = 0;
        }
        return read;
    }

   private:
    static constexpr std::size_t kFew = 4096;  // rows for which it does not pay
    static constexpr std::size_t kMost = 63;

    RecordReader& reader_;
    Aggregator& aggregator_;
    Columns columns_;
    bool wanted_;
    std::size_t taken_ = 0;    // rows since it last stopped
    std::size_t skipped_ = 0;  // batches that were decoded then
    std::size_t pause_ = 0;    // batches to decode first
};

}  // namespace

LoopResult aggregate_records(RecordReader& reader, program::Program* program, Aggregator& aggregator,
                             const LoopText& text, const LoopLimits& limits) {
    LoopResult result;
    const std::size_t end = std::min(text.size, text.stop);
    const Clock::time_point begun = Clock::now();
    KnownRecords known(reader, aggregator, program == nullptr);
    while (result.consumed < end) {
        const std::uint8_t* data = text.data + result.consumed;
        const std::size_t size = text.size - result.consumed, stop = text.stop - result.consumed;
        RecordsResult read;
        if (known.pays()) {
            read = known.take(data, size, stop, text.final);
            if (read.consumed == 0) continue;
            read.status = Status::kDone;
            result.known += read.rows;
        } else {
            Columns columns(reader.targets());
            read = reader.read(data, size, stop, text.final, limits.batch_bytes, columns.list.data(), columns.offsets);
            if (read.status == Status::kNoMemory) throw std::bad_alloc();
            if (read.rows != 0) {
                HeldArray rows(to_arrow(columns.list.data(), columns.list.size(), read.rows, data, size, kNoOwner));
                if (rows == nullptr) throw std::bad_alloc();
                if (!run_program(program, rows)) break;
                if (rows->length != 0) aggregator.update(*rows);
            }
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
