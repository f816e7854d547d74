// Options: lines returned, located and final, stop, length of the needle, its bytes.
#include "fuzzing.h"

using namespace mmflow;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t length) {
    fuzzing::Input input(bytes, length);
    const std::uint8_t options = input.byte(), stop = input.byte();
    std::vector<std::uint8_t> needle(input.byte() % 70);
    for (std::uint8_t& c : needle) {
        c = input.byte();
        if (c == '\n' || c == '\r') c = 'n';
    }
    const bool returned = options & 1, located = options & 2;
    const LinesSpec spec{returned, located, needle.data(), needle.size()};
    std::vector<Target> targets;
    if (returned) targets.push_back({0, {Kind::kString}});
    std::size_t size = 0;
    const auto text = input.rest(size);
    const std::size_t limit = stop == 255 ? size : size * stop / 254;
    LinesScratch scratch;
    fuzzing::on_all(targets, located, text.get(), size, [&](const Kernels& kernels, fuzzing::Decoded& decoded) {
        return kernels.lines_decode(spec, text.get(), size, limit, options & 4, scratch, decoded.columns.data(),
                                    decoded.offsets);
    });
    scratch.release();
    return 0;
}
