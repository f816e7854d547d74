// Options: number of fields; for each its form, width and the gap before it; bytes behind the last one.
#include "fuzzing.h"
#include "gather.h"

using namespace mmflow;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t length) {
    fuzzing::Input input(bytes, length);
    std::vector<RecordField> fields(1 + input.byte() % 6);
    std::vector<Target> targets;
    std::size_t size = 0;
    for (RecordField& field : fields) {
        field.form = static_cast<RecordField::Form>(input.byte() % 4);
        field.width = field.form == RecordField::Form::kBool ? 1 : 1 + input.byte() % 40;
        field.offset = size + input.byte() % 4;
        size = field.offset + field.width;
        targets.push_back({0, {field.form == RecordField::Form::kText ? Kind::kString : Kind::kUInt8}});
    }
    size += input.byte() % 4;
    std::size_t all = 0;
    const auto data = input.rest(all);
    const std::size_t count = all / size;
    // Only whole records: from memory that ends with the last one.
    std::vector<std::uint8_t> records(data.get(), data.get() + count * size);
    fuzzing::Decoded decoded(targets);
    decoded.result = gather_records(fields.data(), fields.size(), records.data(), count, size, decoded.columns.data());
    if (decoded.result.status == Status::kNoMemory) std::abort();
    if (decoded.result.status == Status::kDone) {
        for (std::size_t f = 0; f < fields.size(); ++f) {
            const RecordField& field = fields[f];
            for (std::size_t row = 0; row < count; ++row) {
                const std::uint8_t* from = records.data() + row * size + field.offset;
                const std::uint8_t* out = decoded.columns[f].values.data;
                for (std::size_t b = 0; b < field.width; ++b) {
                    const bool swapped = field.form == RecordField::Form::kSwapped;
                    if (field.form != RecordField::Form::kBytes && !swapped) break;
                    if (out[row * field.width + b] != from[swapped ? field.width - 1 - b : b]) std::abort();
                }
                if (field.form == RecordField::Form::kBool && (out[row / 8] >> (row % 8) & 1) != (*from != 0)) std::abort();
            }
        }
        decoded.export_and_drop(records.data(), records.size());
    }
    return 0;
}
