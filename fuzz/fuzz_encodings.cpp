// Options: form, final, cut.
#include <array>

#include "fuzzing.h"

using namespace mmflow;

namespace {

constexpr std::uint64_t kNone = 1ull << 56 | 0xc0;

std::uint64_t entry(std::uint32_t c) {
    if (c < 0x80) return 1ull << 56 | c;
    if (c < 0x800) return 2ull << 56 | (0xc0u | c >> 6) | (0x80ull | (c & 63)) << 8;
    return 3ull << 56 | (0xe0u | c >> 12) | (0x80ull | (c >> 6 & 63)) << 8 | (0x80ull | (c & 63)) << 16;
}

// Tables as mmflow/formats/encodings/tables.py fills them, of encodings that are made up.
struct Tables {
    std::array<std::uint64_t, 256> latin, foreign, leads;
    std::vector<std::uint64_t> pairs = std::vector<std::uint64_t>(1 << 16), triples = pairs;
    std::vector<std::uint32_t> fours = std::vector<std::uint32_t>(39420);

    Tables() {
        for (std::uint32_t b = 0; b < 256; ++b) {
            latin[b] = b >= 0x80 && b < 0xa0 ? kNone : entry(b);
            foreign[b] = b % 19 == 7 ? kNone : entry(b < 64 ? b ^ 32 : b * 31);
            leads[b] = b < 0x80 ? entry(b) : b == 0x80 || b == 0xff ? kNone : b > 0xa0 && b < 0xb0 ? entry(0xff00 + b) : 0;
        }
        for (std::uint32_t first = 0x81; first < 0xff; ++first) {
            if (leads[first] != 0) continue;
            for (std::uint32_t second = 0x40; second < 0xff; ++second) {
                const std::uint32_t c = 0x4e00 + (first * 191 + second) % 20000;
                if ((first + second) % 11 != 3 && first != 0x8f) pairs[first << 8 | second] = entry(c);
                if (second >= 0xa1 && (first ^ second) % 5 != 0) triples[first << 8 | second] = entry(c + 7);
            }
        }
        for (std::uint32_t i = 0; i < 39420; ++i) fours[i] = i % 13 == 5 ? 0 : 0x80 + i % 0xd000;
    }

    TextSpec spec(std::uint8_t form) const {
        switch (form % 8) {
            case 0: return {TextForm::kUtf16Le, {}};
            case 1: return {TextForm::kUtf16Be, {}};
            case 2: return {TextForm::kUtf32Le, {}};
            case 3: return {TextForm::kUtf32Be, {}};
            case 4: return {TextForm::kTable, {true, latin.data(), nullptr, nullptr, nullptr}};
            case 5: return {TextForm::kTable, {false, foreign.data(), nullptr, nullptr, nullptr}};
            case 6: return {TextForm::kTable, {true, leads.data(), pairs.data(), triples.data(), nullptr}};
            default: return {TextForm::kTable, {true, leads.data(), pairs.data(), nullptr, fours.data()}};
        }
    }
};

struct Text8 {
    std::vector<std::uint8_t> text;
    std::vector<TextPlace> places;
    std::size_t consumed = 0;
};

Text8 translated(const Kernels& kernels, const TextSpec& spec, const std::uint8_t* data, std::size_t size, bool final) {
    Text8 made;
    const std::size_t bound = kernels.text_bound(spec, data, size);
    if (bound == 0) {
        for (std::size_t i = 0; i < size; ++i) if (data[i] >= 0x80) std::abort();
        made.text.assign(data, data + size);
        made.consumed = size;
        return made;
    }
    // Memory of their own: writing a byte beyond them is found.
    auto out = std::make_unique<std::uint8_t[]>(bound);
    auto places = std::make_unique<TextPlace[]>(size / kTextStride + 1);
    const TextResult r = kernels.text_translate(spec, data, size, final, out.get(), places.get());
    if (r.consumed > size || r.written > bound || r.places > size / kTextStride + 1) std::abort();
    if (final && r.consumed != size) std::abort();
    made.text.assign(out.get(), out.get() + r.written);
    made.places.assign(places.get(), places.get() + r.places);
    made.consumed = r.consumed;
    return made;
}

// Offsets in the input of all characters.
std::vector<std::int64_t> located(const Kernels& kernels, const TextSpec& spec, const std::uint8_t* data, const Text8& made) {
    std::vector<std::int64_t> offsets;
    for (std::size_t i = 0; i < made.text.size(); ++i) {
        if ((made.text[i] & 0xc0) != 0x80) offsets.push_back(static_cast<std::int64_t>(i));
    }
    if (made.places.empty()) return offsets;
    kernels.text_locate(spec, data, made.consumed, made.places.data(), made.places.size(), offsets.data(), offsets.size());
    for (std::size_t i = 0; i < offsets.size(); ++i) {
        const std::int64_t before = i == 0 ? -1 : offsets[i - 1];
        if (offsets[i] <= before || offsets[i] >= static_cast<std::int64_t>(made.consumed)) fuzzing::differ("order of offsets");
    }
    return offsets;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t length) {
    static const Tables tables;
    fuzzing::Input input(bytes, length);
    const TextSpec spec = tables.spec(input.byte());
    const bool final = input.byte() & 1;
    const std::uint8_t cut = input.byte();
    std::size_t size = 0;
    const auto text = input.rest(size);
    Text8 first;
    std::vector<std::int64_t> offsets;
    for (const Kernels* const* k = available_kernels(); *k != nullptr; ++k) {
        const Text8 made = translated(**k, spec, text.get(), size, final);
        const auto found = located(**k, spec, text.get(), made);
        if (k == available_kernels()) {
            first = made;
            offsets = found;
            continue;
        }
        if (made.text != first.text || made.consumed != first.consumed) fuzzing::differ("text");
        if (made.places.size() != first.places.size() ||
            (!made.places.empty() &&
             std::memcmp(made.places.data(), first.places.data(), made.places.size() * sizeof(TextPlace)) != 0)) {
            fuzzing::differ("places");
        }
        if (found != offsets) fuzzing::differ("offsets");
    }
    // In two parts, the text is the same.
    const Kernels& kernels = **available_kernels();
    Text8 head = translated(kernels, spec, text.get(), size * cut / 255, false);
    const auto rest = std::make_unique<std::uint8_t[]>(size - head.consumed);
    if (size > head.consumed) std::memcpy(rest.get(), text.get() + head.consumed, size - head.consumed);
    const Text8 tail = translated(kernels, spec, rest.get(), size - head.consumed, final);
    head.text.insert(head.text.end(), tail.text.begin(), tail.text.end());
    if (head.text != first.text || head.consumed + tail.consumed != first.consumed) fuzzing::differ("parts");
    return 0;
}
