// Options: bytes of input and of room at once (small, or all). Then a gzip file, whose header may be left out (bit 7).
#include <algorithm>
#include <vector>

#include "fuzzing.h"
#include "inflate/inflate.h"

using namespace mmflow;

namespace {

struct Inflated {
    std::vector<std::uint8_t> text;
    InflateStatus status = InflateStatus::kOk;
    bool operator==(const Inflated&) const = default;
};

Inflated inflated(const Kernels& kernels, const std::uint8_t* data, std::size_t size, std::size_t piece, std::size_t room) {
    constexpr std::size_t kMost = 4 << 20;  // a few KiB may hold gigabytes of zeros
    auto inflater = std::make_unique<Inflater>(find_decode_codes(kernels.name));
    Inflated found;
    std::size_t at = 0, given = piece;
    while (found.text.size() < kMost) {
        given = std::min(given, size - at);
        const bool final = at + given == size;
        // Memory of their own: reading or writing a byte too far is found.
        auto in = std::make_unique<std::uint8_t[]>(given);
        if (given) std::memcpy(in.get(), data + at, given);
        auto out = std::make_unique<std::uint8_t[]>(kInflateHistory + room + kInflateSlack);
        std::uint8_t* const begin = out.get() + kInflateHistory;
        const InflateResult r = inflater->inflate(in.get(), given, final, begin, room);
        if (r.consumed > given || r.produced >= room + kInflateSlack) std::abort();
        found.text.insert(found.text.end(), begin, begin + r.produced);
        found.status = r.status;
        at += r.consumed;
        if (r.status == InflateStatus::kOutput) {
            given = piece;
        } else if (r.status == InflateStatus::kInput) {
            if (final) std::abort();
            given = given - r.consumed + piece;
        } else {
            break;
        }
    }
    return found;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t length) {
    fuzzing::Input input(bytes, length);
    const std::uint8_t options = input.byte();
    const std::size_t piece = options & 1 ? 1 + input.byte() : 1 << 20;
    const std::size_t room = options & 2 ? 64 + 16 * input.byte() : 64 << 10;
    std::size_t size = 0;
    const auto rest = input.rest(size);
    std::vector<std::uint8_t> data(rest.get(), rest.get() + size);
    if (options & 128) {
        const std::uint8_t header[10] = {0x1f, 0x8b, 8};
        data.insert(data.begin(), header, header + 10);
    }
    std::unique_ptr<Inflated> first;
    for (const Kernels* const* k = available_kernels(); *k != nullptr; ++k) {
        for (const bool whole : {false, true}) {
            auto found = std::make_unique<Inflated>(
                inflated(**k, data.data(), data.size(), whole ? std::size_t{1} << 20 : piece, whole ? std::size_t{64} << 10 : room));
            constexpr std::size_t kMost = 4 << 20;
            if (found->text.size() >= kMost) return 0;
            if (!first) {
                first = std::move(found);
            } else if (!(*found == *first)) {
                fuzzing::differ("inflated text, or what is wrong with it");
            }
        }
    }
    return 0;
}
