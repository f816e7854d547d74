// Columns of a program's result: rows are appended slice by slice, and leave as Arrow arrays.
#pragma once
#include <memory>
#include <vector>

#include "program/primitives.h"
#include "program/program.h"

namespace mmflow::program {

// Growing column. Validity, and values of booleans, are bytes until they leave.
struct OutputColumn {
    Layout layout = Layout::kFixed;
    std::size_t width = 0;          // of a value in `values`
    std::shared_ptr<Imported> source;  // column of the batch that views point into
    Bytes values;
    Bytes valid;
    Bytes side;                     // text of computed views
    std::size_t side_size = 0;
    bool any_null = false;

    OutputColumn() = default;
    OutputColumn(const OutputColumn&) = delete;
    OutputColumn(OutputColumn&& other) noexcept;
    OutputColumn& operator=(const OutputColumn&) = delete;
    ~OutputColumn();

    void clear() noexcept;

    // Makes room for `n` rows behind `rows`; false where there is no memory.
    [[nodiscard]] bool reserve(std::size_t rows, std::size_t n) noexcept;

    // Bytes of validity of `n` rows behind `rows`, to be written: those before are valid so far.
    [[nodiscard]] std::uint8_t* nulls(std::size_t rows, std::size_t n) noexcept;

    // Adds text as views. False where there is no memory, or the text is longer than views can count.
    [[nodiscard]] bool append_text(std::size_t rows, const Text* text, bool constant, const std::uint8_t* valid,
                                   std::size_t n) noexcept;
};

// Returns a struct array of the first `rows` rows, which takes the columns; null where there is no memory.
ArrowArray* to_arrow(std::vector<OutputColumn>& columns, std::size_t rows, const Primitives& primitives) noexcept;

}  // namespace mmflow::program
