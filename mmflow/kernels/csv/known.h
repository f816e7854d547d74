// Decoding of CSV records whose key is a text that was seen before, and whose other columns are plain numbers: to the
// numbers of groups, without views of the texts. What is unusual in any way is left to `csv_decode`, which is its reference.
#pragma once
#include <cstddef>
#include <cstdint>

#include "aggregate/known_texts.h"
#include "csv/csv.h"

namespace mmflow {

// Returns whether records of `spec` may be read so, with the text of target `key`.
bool may_be_known(const CsvSpec& spec, std::size_t key) noexcept;

// Decodes complete records as CsvDecode does, of one chunk at most. The column of the key takes uint32: the groups. On
// kNeedsFallback, `consumed` is where the record begins that is not known, or not plain.
using CsvKnown = RecordsResult (*)(const CsvSpec& spec, std::size_t key, const KnownTable& known, const std::uint8_t* data,
                                   std::size_t size, std::size_t stop, bool final, CsvScratch& scratch,
                                   Column* columns) noexcept;

// Returns that of an instruction set (simd/dispatch.h); the plain one where it has none of its own.
CsvKnown find_csv_known(const char* instruction_set) noexcept;

// Null where the instruction set was not compiled in.
extern const CsvKnown kScalarCsvKnown;
extern const CsvKnown kAvx2CsvKnown;
extern const CsvKnown kAvx512CsvKnown;

}  // namespace mmflow
