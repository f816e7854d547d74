// Options: quote, number of fields, exact, final, stop, filters.
#include "fuzzing.h"

using namespace mmflow;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t length) {
    fuzzing::Input input(bytes, length);
    const std::uint8_t quote = input.byte(), count = input.byte(), end = input.byte(), stop = input.byte(),
                       filtered = input.byte();
    const Type kinds[] = {{Kind::kString},  {Kind::kInt64},         {Kind::kFloat64},
                          {Kind::kDate32},  {Kind::kDecimal128, 9, 2}, {Kind::kTimestamp, 6, 0, true},
                          {Kind::kBool},    {Kind::kUInt8},         {Kind::kTime64, 6},
                          {Kind::kFloat32}, {Kind::kTimestamp, 9}};
    const int fields = 1 + count % 11;
    const auto raw = [](const char* text) { return reinterpret_cast<const std::uint8_t*>(text); };
    const TimeForm forms[] = {{raw("d\0'/m\0'/Y\0"), 5, {10, 0, 3, 6, {2, 5}, {'/', '/'}}},
                              {raw("b\0 \0d\0 \0Y\0 \0I\0':M\0 \0p\0f\0z\0"), 13, {}}};
    const std::int64_t starts[] = {-1000000000, 0, 1000}, offsets[] = {3600, WallClock::kNone, 7200};
    Style styles[4];
    styles[0].decimal = ',';
    styles[1].decimal = ',';
    styles[1].thousands = raw(".");
    styles[1].thousands_size = 1;
    styles[2].forms = forms;
    styles[2].form_count = 2;
    styles[3].clock = {starts, offsets, 3};
    std::vector<Target> targets;
    for (int i = 0; i < fields; ++i) {
        if ((count / 11) % 3 != 1 || i % 2) {
            targets.push_back({i, kinds[(i + count / 33) % 11]});
            targets.back().type.exact = (end & 4) != 0;
            if (end & 8) targets.back().type.style = &styles[(i + end / 16) % 4];
        }
    }
    const Text words[] = {{reinterpret_cast<const std::uint8_t*>("a"), 1}, {reinterpret_cast<const std::uint8_t*>("xy"), 2}};
    const Filter filters[] = {{0, {Kind::kString}, Filter::Test::kText, 0, 0, 0, 0, words, 2},
                              {0, {Kind::kInt64}, Filter::Test::kInt, -5, 100, 0, 0, nullptr, 0},
                              {0, {Kind::kFloat64}, Filter::Test::kReal, 0, 0, -1.5, 1e9, nullptr, 0},
                              {0, {Kind::kDate32}, Filter::Test::kNotNull, 0, 0, 0, 0, nullptr, 0}};
    const Text nulls[] = {{nullptr, 0}, {reinterpret_cast<const std::uint8_t*>("NA"), 2}};
    const bool located = end & 2;
    const CsvSpec spec{fields, ',', quote % 4 == 0 ? -1 : '"', targets.data(), targets.size(),
                       filters + filtered % 4, filtered / 4 % 2u, nulls, filtered / 8 % 3u, located};
    std::size_t size = 0;
    const auto text = input.rest(size);
    const std::size_t limit = stop == 255 ? size : size * stop / 254;
    CsvScratch scratch;
    fuzzing::on_all(targets, located, text.get(), size, [&](const Kernels& kernels, fuzzing::Decoded& decoded) {
        return kernels.csv_decode(spec, text.get(), size, limit, end & 1, scratch, decoded.columns.data(),
                                  decoded.offsets);
    });
    scratch.release();
    return 0;
}
