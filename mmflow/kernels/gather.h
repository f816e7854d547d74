// Fixed-width records: one field of each, gathered into a column. Plain C++: the time goes to memory.
#pragma once
#include "rows.h"

namespace mmflow {

// A field of a record of binary layout.
struct RecordField {
    enum class Form : int {
        kBytes,    // as they stand
        kSwapped,  // the other byte order
        kBool,     // one byte; anything but 0 is true
        kText,     // padded with NULs or spaces at its end
    };
    std::size_t offset;  // in the record, bytes
    std::size_t width;   // bytes
    Form form;
};

// `count` records of `size` bytes at `data`, of any alignment; one column for each field. kIrregular: some text is not
// UTF-8, and nothing was given.
RecordsResult gather_records(const RecordField* fields, std::size_t field_count, const std::uint8_t* data,
                             std::size_t count, std::size_t size, Column* columns) noexcept;

}  // namespace mmflow
