// Options: quote, stop, bytes of a batch, final; the rest is two columns of CSV.
//
// Whatever the batches, in one call or in as many as a limit of no groups makes, and on each instruction set, the loop
// takes the same records into the same number of groups.
#include "fuzzing.h"
#include "scan/loop.h"

using namespace mmflow;

namespace {

class Reader : public RecordReader {
   public:
    Reader(const Kernels& kernels, const CsvSpec& spec) : kernels_(kernels), spec_(spec) {
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

   private:
    const Kernels& kernels_;
    CsvSpec spec_;
    const std::vector<Target> targets_{{0, {Kind::kString}}, {1, {Kind::kFloat64}}};
    CsvScratch scratch_;
};

struct Taken {
    std::size_t consumed = 0, records = 0, lines = 0, rows = 0, groups = 0;
    bool operator==(const Taken&) const = default;
};

Taken taken(const Kernels& kernels, const CsvSpec& spec, LoopText text, const LoopLimits& limits) {
    Reader reader(kernels, spec);
    Aggregator groups({array_type("vu"), array_type("g")}, {0}, {{Function::kSum, 1, -1}}, {array_type("g")});
    Taken all;
    for (;;) {
        const LoopResult r = aggregate_records(reader, nullptr, groups, text, limits);
        if (r.consumed > text.size || r.rows > r.records) std::abort();
        if (r.consumed == 0) return all;
        all.consumed += r.consumed;
        all.records += r.records;
        all.lines += r.lines;
        all.rows += r.rows;
        all.groups = groups.groups();
        text.data += r.consumed;
        text.size -= r.consumed;
        text.stop -= r.consumed < text.stop ? r.consumed : text.stop;
    }
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
    const Taken wanted = taken(*kScalarKernels, spec, text, ample);
    for (const Kernels* const* k = available_kernels(); *k != nullptr; ++k) {
        if (!(taken(**k, spec, text, ample) == wanted)) fuzzing::differ("the loop");
        if (!(taken(**k, spec, text, small) == wanted)) fuzzing::differ("batches of the loop");
    }
    return 0;
}
