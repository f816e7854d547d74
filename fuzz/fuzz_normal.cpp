// Options: delimiter and quote, flags, more flags, number of fields, final, stop, capacity.
#include "fuzzing.h"

using namespace mmflow;

namespace {

Text text_of(const char* s) { return {reinterpret_cast<const std::uint8_t*>(s), std::strlen(s)}; }

// All that the records of a text become, piece by piece.
struct Made {
    std::vector<std::uint8_t> text;
    std::vector<std::int64_t> pieces, found;  // found: broken records and repairs
    std::size_t consumed = 0, records = 0, lines = 0;

    void add(std::vector<std::int64_t>& to, const Bytes& table, std::size_t count, std::size_t width, std::size_t offsets,
             std::size_t number) {
        for (std::size_t row = 0; row < count; ++row) {
            std::int64_t values[8];
            std::memcpy(values, table.data + row * width * 8, width * 8);
            for (std::size_t i = 0; i < offsets; ++i) values[i] += static_cast<std::int64_t>(consumed);
            if (number < width) values[number] += static_cast<std::int64_t>(records);
            to.insert(to.end(), values, values + width);
        }
    }
};

Made normalised(const Kernels& kernels, const NormalSpec& spec, const std::uint8_t* data, std::size_t size,
                std::size_t stop, bool final, std::size_t capacity) {
    Made made;
    NormalScratch scratch;
    NormalTables tables;
    while (made.consumed < stop) {
        // Memory of its own: writing a byte beyond it is found.
        const auto out = std::make_unique<std::uint8_t[]>(capacity);
        const std::size_t left = size - made.consumed;
        const NormalResult r = normalise(spec, kernels.write_regular, data + made.consumed, left, stop - made.consumed, final,
                                         out.get(), capacity, scratch, tables);
        if (r.status != Status::kDone || r.consumed > left || r.size > capacity) std::abort();
        if (r.needed != 0) {
            if (r.needed <= capacity) fuzzing::differ("room that was there");
            capacity = r.needed;
            if (r.consumed == 0) continue;
        } else if (r.consumed == 0) {
            break;
        }
        made.text.insert(made.text.end(), out.get(), out.get() + r.size);
        made.add(made.pieces, tables.pieces, tables.piece_count, 4, 0, 4);
        made.add(made.found, tables.broken, tables.broken_count, 5, 2, 4);
        made.add(made.found, tables.repairs, tables.repair_count, 6, 2, 2);
        made.consumed += r.consumed;
        made.records += r.records;
        made.lines += r.lines;
    }
    scratch.release();
    tables.release();
    return made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t length) {
    fuzzing::Input input(bytes, length);
    const std::uint8_t marks = input.byte(), flags = input.byte(), more = input.byte(), count = input.byte(),
                       final = input.byte(), stop = input.byte(), room = input.byte();
    const Text delimiters[] = {text_of(","), text_of(";"), text_of("||"), text_of(""), text_of("\t"), text_of(", ")};
    const Text comments[] = {{nullptr, 0}, text_of("#"), text_of("//")};
    NormalSpec spec{};
    spec.fields = 1u + count % 7u;
    spec.delimiter = delimiters[marks % 6];
    spec.quote = marks / 6 % 3 == 2 ? -2 : '"';
    spec.escape = marks / 18 % 3 == 2 ? '\\' : -3;
    spec.comment = comments[marks / 54 % 3];
    spec.trim = flags & 1;
    spec.lenient = flags & 2;
    spec.returns = flags & 4;
    spec.trailing = flags & 8;
    spec.fill = spec.lenient || flags & 16;
    spec.cut = spec.lenient || flags & 32;
    spec.extra = spec.cut && flags & 64;
    spec.keep_broken = more & 1;
    spec.stop_broken = more & 2 && !spec.keep_broken;
    spec.out_delimiter = spec.delimiter.size == 1 ? spec.delimiter.data[0] : 0x1f;
    spec.out_quote = spec.quote < 0 ? 0x1e : static_cast<std::uint8_t>(spec.quote);
    std::size_t size = 0;
    const auto text = input.rest(size);
    const std::size_t limit = stop == 255 ? size : size * stop / 254;
    const std::size_t capacity = room == 255 ? size + size / 8 + 65536 : 1u + 4u * room;
    Made first;
    for (const Kernels* const* k = available_kernels(); *k != nullptr; ++k) {
        Made made = normalised(**k, spec, text.get(), size, limit, final & 1, capacity);
        if (k == available_kernels()) {
            first = std::move(made);
        } else if (made.text != first.text || made.pieces != first.pieces || made.found != first.found ||
                   made.consumed != first.consumed || made.records != first.records || made.lines != first.lines) {
            fuzzing::differ("canonical text");
        }
    }
    // Clean lines are copied as they are, and which ones are found depends on the room: what they mean does not.
    const Made whole = normalised(**available_kernels(), spec, text.get(), size, limit, final & 1, 3 * size + 65536);
    if (whole.consumed != first.consumed || whole.records != first.records || whole.lines != first.lines) {
        fuzzing::differ("records by room");
    }
    return 0;
}
