// Options: path, final, copies, stop, size of the pieces.
#include "fuzzing.h"

using namespace mmflow;

namespace {

Text text_of(const char* s) { return {reinterpret_cast<const std::uint8_t*>(s), std::strlen(s)}; }

// All that a walk gives, piece by piece, as bytes to compare.
std::vector<std::uint8_t> walked(const Kernels& kernels, const JsonStep* steps, std::size_t step_count,
                                 const std::uint8_t* text, std::size_t size, std::size_t stop, std::size_t piece,
                                 bool final, bool copies) {
    std::vector<std::uint8_t> found;
    const auto add = [&](const void* p, std::size_t n) {
        const auto* bytes = static_cast<const std::uint8_t*>(p);
        found.insert(found.end(), bytes, bytes + n);
    };
    JsonCursor cursor;
    std::size_t at = 0, length = piece;
    for (;;) {
        const std::size_t n = size - at < length ? size - at : length;
        // Memory of its own: reading a byte beyond the piece is found.
        auto copy = std::make_unique<std::uint8_t[]>(n);
        if (n) std::memcpy(copy.get(), text + at, n);
        JsonWalkOut out{{}, {}, copies};
        const bool ends = at + n == size;
        const JsonWalked w = kernels.json_walk(steps, step_count, cursor, copy.get(), n, stop > at ? stop - at : 0,
                                               final && ends, out);
        if (w.consumed > n || w.problem_at > n) fuzzing::differ("bounds");
        add(&w.consumed, sizeof w.consumed);
        add(&w.records, sizeof w.records);
        add(&w.lines, sizeof w.lines);
        add(&w.problem_at, sizeof w.problem_at);
        const int flags[] = {w.at_record, static_cast<int>(w.problem), cursor.level, static_cast<int>(cursor.phase)};
        add(flags, sizeof flags);
        if (copies) {
            add(out.lines.data, w.written);
            add(out.places.data, w.records * 24);
        }
        out.release();
        at += w.consumed;
        if (w.problem != JsonProblem::kNone || w.at_record || ends) return found;
        length = w.consumed ? piece : 2 * length;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t length) {
    fuzzing::Input input(bytes, length);
    const std::uint8_t path = input.byte(), flags = input.byte(), stop = input.byte(), piece = input.byte();
    const JsonStep item{true, {nullptr, 0}}, data{false, text_of("data")}, key{false, text_of("a")};
    const JsonStep paths[5][3] = {{item, item, item}, {data, item, item}, {key, item, key}, {item, key, item}, {item, item, key}};
    const JsonStep* steps = paths[path % 5];
    const std::size_t step_count = path / 5 % 4u;
    std::size_t size = 0;
    const auto text = input.rest(size);
    const std::size_t limit = stop == 255 ? size + 1 : size * stop / 254;
    std::vector<std::uint8_t> first;
    for (const Kernels* const* k = available_kernels(); *k != nullptr; ++k) {
        const auto found = walked(**k, steps, step_count, text.get(), size, limit, piece + 1u, flags & 1, flags & 2);
        if (k == available_kernels()) {
            first = found;
        } else if (first != found) {
            fuzzing::differ("walk");
        }
    }
    return 0;
}
