// The loop of a scan whose rows end in an aggregation: one call for many records, whose columns stay in cache.
//
//   text --decode--> columns --program--> rows that are left --aggregate--> groups
//
// What a decoder or a program leaves to its fallback, the loop leaves, too: it ends before it, and all that it says it
// consumed is in the groups. Its reference is the way of a scan batch by batch (formats/decoding/reader.py).
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "aggregate/aggregator.h"
#include "common/rows.h"
#include "program/program.h"

namespace mmflow {

// Decoder of one format, with its memory. Not thread-safe.
class RecordReader {
   public:
    RecordReader() = default;
    RecordReader(const RecordReader&) = delete;
    RecordReader& operator=(const RecordReader&) = delete;
    virtual ~RecordReader() = default;

    // Columns of the rows.
    virtual const std::vector<Target>& targets() const noexcept = 0;

    // Decodes as CsvDecode does. `most`: bytes of columns after which it ends; 0: it reads all.
    virtual RecordsResult read(const std::uint8_t* data, std::size_t size, std::size_t stop, bool final, std::size_t most,
                               Column* columns, Bytes& offsets) noexcept = 0;

    // Decodes the next records whose texts, of target `key`, are known, as CsvKnown does; a reader that can't do so leaves all.
    virtual RecordsResult read_known(std::size_t key, const KnownTable& known, const std::uint8_t* data, std::size_t size,
                                     std::size_t stop, bool final, Column* columns) noexcept {
        static_cast<void>(key), static_cast<void>(known), static_cast<void>(data), static_cast<void>(size);
        static_cast<void>(stop), static_cast<void>(final), static_cast<void>(columns);
        return {Status::kNeedsFallback};
    }
};

// Records to aggregate, as decoders take them.
struct LoopText {
    const std::uint8_t* data;
    std::size_t size;
    std::size_t stop;  // records that begin here or later are left
    bool final;        // the file ends where the text does
};

struct LoopLimits {
    std::size_t batch_bytes;  // of columns that are aggregated at once
    std::size_t group_bytes;  // of groups, at which the loop ends
};

struct LoopResult {
    std::size_t consumed = 0;  // bytes before the first record that was not taken
    std::size_t records = 0;
    std::size_t lines = 0;     // newlines within `consumed`
    std::size_t rows = 0;      // that the decoder gave
    std::size_t known = 0;     // of these, rows whose keys the decoder found
};

// Aggregates the records of a text, until one is left to a fallback, or is not complete, or a tenth of a second is over,
// or a limit is reached. `program`: null where the aggregator takes the decoder's columns. Throws std::bad_alloc, and
// what `Aggregator::update` throws.
LoopResult aggregate_records(RecordReader& reader, program::Program* program, Aggregator& aggregator,
                             const LoopText& text, const LoopLimits& limits);

}  // namespace mmflow
