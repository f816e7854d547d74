// Gathering of the fields of fixed-width records into columns. Plain C++: memory takes the time.
#pragma once
#include "common/rows.h"

namespace mmflow {

// A field of a record of binary layout.
struct RecordField {
    enum class Form : int {
        kBytes,    // bytes as they are
        kSwapped,  // the other byte order
        kBool,     // one byte; anything but 0 is true
        kText,     // padded with NULs or spaces at its end
    };
    std::size_t offset;  // in the record, bytes
    std::size_t width;   // bytes
    Form form;
};

// Gathers `count` records of `size` bytes at `data`, of any alignment, into one column for each field. kNeedsFallback: some
// text is not UTF-8, and the columns are meaningless.
RecordsResult gather_records(const RecordField* fields, std::size_t field_count, const std::uint8_t* data,
                             std::size_t count, std::size_t size, Column* columns) noexcept;

}  // namespace mmflow
