// Options: which fields are read, closed (records, the inner object), exact, final, stop, filters.
#include "fuzzing.h"

using namespace mmflow;

namespace {
Text text_of(const char* s) { return {reinterpret_cast<const std::uint8_t*>(s), std::strlen(s)}; }
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t length) {
    fuzzing::Input input(bytes, length);
    const std::uint8_t fields = input.byte(), end = input.byte(), stop = input.byte(), filtered = input.byte();
    const Type point_types[] = {{Kind::kFloat64}, {Kind::kString}};
    const Text point_names[] = {text_of("x"), text_of("y")};
    const Type point{.kind = Kind::kStruct, .closed = (end & 8) != 0, .children = point_types, .names = point_names,
                     .child_count = 2};
    const Type integer{Kind::kInt64};
    const Text item[] = {text_of("")};
    const Type kinds[] = {{Kind::kInt64},   {Kind::kString}, {Kind::kTimestamp, 6, 0, true},
                          {Kind::kBool},    point,           {.kind = Kind::kList, .children = &point, .names = item, .child_count = 1},
                          {Kind::kFloat64}, {.kind = Kind::kList, .children = &integer, .names = item, .child_count = 1}};
    const char* names[] = {"a", "b", "t", "ok", "p", "ps", "f", "l"};
    std::vector<JsonKey> keys;
    std::vector<Target> targets;
    const bool closed = end & 4, located = end & 2;
    int slots = 0;
    for (int i = 0; i < 8; ++i) {
        const bool read = fields >> i & 1;
        if (read || closed) keys.push_back({text_of(names[i]), read ? slots : -1});
        if (read) {
            targets.push_back({slots++, kinds[i]});
            targets.back().type.exact = (end & 16) != 0;
        }
    }
    const Text words[] = {text_of("x")};
    const Filter filters[] = {{0, {Kind::kInt64}, Filter::Test::kInt, -5, 100, 0, 0, nullptr, 0},
                              {0, {Kind::kString}, Filter::Test::kText, 0, 0, 0, 0, words, 1},
                              {0, {Kind::kFloat64}, Filter::Test::kReal, 0, 0, -1.5, 1e9, nullptr, 0}};
    // The type `json`, and the column of unknown fields.
    if (end & 32) targets.push_back({slots ? slots - 1 : 0, {Kind::kString, 1}});
    const int extra = (end & 64) && closed ? slots : -1;
    if (extra >= 0) targets.push_back({slots++, {Kind::kString, 2}});
    if (slots == 0 && (end & 32)) targets.clear();
    const JsonSpec spec{keys.data(), keys.size(), closed, slots, targets.data(), targets.size(),
                        filters + filtered % 3, slots && extra < 0 ? filtered / 3 % 2u : 0u, located,
                        extra};
    std::size_t size = 0;
    const auto text = input.rest(size);
    const std::size_t limit = stop == 255 ? size : size * stop / 254;
    JsonScratch scratch;
    fuzzing::on_all(targets, located, text.get(), size, [&](const Kernels& kernels, fuzzing::Decoded& decoded) {
        return kernels.json_decode(spec, text.get(), size, limit, end & 1, scratch, decoded.columns.data(),
                                   decoded.offsets);
    });
    scratch.release();
    return 0;
}
