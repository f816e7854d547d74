// Options: quote, stop, bytes of a batch, final; the rest is two columns of CSV.
//
// Whatever the batches, in one call or in as many as a limit of no groups makes, on each instruction set, and with keys that
// the decoder finds or without, the loop takes the same records into the same groups with the same sums.
#include <utility>

#include "csv/known.h"
#include "fuzzing.h"
#include "scan/loop.h"

using namespace mmflow;

namespace {

class Reader : public RecordReader {
   public:
    Reader(const Kernels& kernels, const CsvSpec& spec, bool known) : kernels_(kernels), spec_(spec), known_(known) {
        spec_.targets = targets_.data();
        spec_.target_count = targets_.size();
    }
    ~Reader() override { scratch_.release(); }
    const std::vector<Target>& targets() const noexcept override { return targets_; }
    RecordsResult read(const std::uint8_t* data, std::size_t size, std::size_t stop, bool final, std::size_t most,
                       Column* columns, Bytes& offsets) noexcept override {
        spec_.most_bytes = most;
        return kernels_.csv_decode(spec_, data, size, stop, final, scratch_, columns, offsets);
    }
    RecordsResult read_known(std::size_t key, const KnownTable& known, const std::uint8_t* data, std::size_t size,
                             std::size_t stop, bool final, Column* columns) noexcept override {
        if (!known_ || !may_be_known(spec_, key)) return {Status::kNeedsFallback};
        return find_csv_known(kernels_.name)(spec_, key, known, data, size, stop, final, scratch_, columns);
    }

   private:
    const Kernels& kernels_;
    CsvSpec spec_;
    bool known_;
    const std::vector<Target> targets_{{0, {Kind::kString}}, {1, {Kind::kFloat64}}};
    CsvScratch scratch_;
};

struct Taken {
    std::size_t consumed = 0, records = 0, lines = 0, rows = 0;
    std::vector<std::uint64_t> sums;  // their bits; 0: null
    bool operator==(const Taken&) const = default;
};

std::vector<std::uint64_t> sums_of(Aggregator& groups) {
    ArrowArray* const made = groups.results(0, groups.groups());
    std::vector<std::uint64_t> bits(groups.groups());
    if (!bits.empty()) std::memcpy(bits.data(), made->children[1]->buffers[1], bits.size() * 8);
    made->release(made);
    std::free(made);
    return bits;
}

// Takes the text twice, so that its keys are known then.
Taken taken(const Kernels& kernels, const CsvSpec& spec, const LoopText& all_text, const LoopLimits& limits, bool known) {
    Reader reader(kernels, spec, known);
    Aggregator groups({array_type("vu"), array_type("g")}, {0}, {{Function::kSum, 1, -1}}, {array_type("g")});
    Taken all;
    LoopText text = all_text;
    for (bool again = false;;) {
        const LoopResult r = aggregate_records(reader, nullptr, groups, text, limits);
        if (r.consumed > text.size || r.rows > r.records || r.known > r.rows) std::abort();
        if (r.consumed == 0) {
            if (std::exchange(again, true)) break;
            text = all_text;
            continue;
        }
        all.consumed += r.consumed;
        all.records += r.records;
        all.lines += r.lines;
        all.rows += r.rows;
        text.data += r.consumed;
        text.size -= r.consumed;
        text.stop -= r.consumed < text.stop ? r.consumed : text.stop;
    }
    all.sums = sums_of(groups);
    return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t length) {
    fuzzing::Input input(bytes, length);
    const std::uint8_t quote = input.byte(), stop = input.byte(), batch = input.byte(), final = input.byte();
    const Text nulls[] = {{nullptr, 0}};
    const CsvSpec spec{2, ',', quote % 4 ? '"' : -1, nullptr, 0, nullptr, 0, nulls, 1, false};
    std::size_t size = 0;
    const auto data = input.rest(size);
    const LoopText text{data.get(), size, stop == 255 ? size : size * stop / 254, (final & 1) != 0};
    const LoopLimits ample{1 << 20, ~std::size_t{0}}, small{1 + batch * 4u, 0};
    const Taken wanted = taken(*kScalarKernels, spec, text, ample, false);
    for (const Kernels* const* k = available_kernels(); *k != nullptr; ++k) {
        if (!(taken(**k, spec, text, ample, false) == wanted)) fuzzing::differ("the loop");
        if (!(taken(**k, spec, text, small, false) == wanted)) fuzzing::differ("batches of the loop");
        if (!(taken(**k, spec, text, small, true) == wanted)) fuzzing::differ("known keys of the loop");
    }
    return 0;
}
