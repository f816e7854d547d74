// A main for compilers without libFuzzer: runs every file of the folders that it is given, then mutations of them, for
// -max_total_time=SECONDS, from -seed=N. Options are spelled as libFuzzer spells them.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes read(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

void mutate(Bytes& bytes, const std::vector<Bytes>& corpus, std::mt19937_64& random) {
    const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % (n ? n : 1)); };
    for (std::size_t times = 1 + below(6); times; --times) {
        const std::size_t at = below(bytes.size() + 1);
        const auto place = bytes.begin() + static_cast<std::ptrdiff_t>(at);
        switch (below(6)) {
            case 0:
                if (at < bytes.size()) bytes[at] ^= static_cast<std::uint8_t>(1u << below(8));
                break;
            case 1:
                bytes.insert(place, static_cast<std::uint8_t>("\",\n\r\\{}[]:0-.eZ\0\xff a"[below(20)]));
                break;
            case 2:
                if (at < bytes.size()) bytes.erase(place, place + static_cast<std::ptrdiff_t>(1 + below(std::min<std::size_t>(bytes.size() - at, 9))));
                break;
            case 3:
                bytes.insert(place, below(130), static_cast<std::uint8_t>(random()));
                break;
            default: {
                const Bytes& other = corpus[below(corpus.size())];
                const std::size_t from = below(other.size()), count = below(other.size() - from + 1);
                const auto first = other.begin() + static_cast<std::ptrdiff_t>(from);
                bytes.insert(place, first, first + static_cast<std::ptrdiff_t>(count));
            }
        }
    }
    if (bytes.size() > 200'000) bytes.resize(200'000);
}

}  // namespace

int main(int count, char** arguments) {
    double seconds = 1;
    std::uint64_t seed = 1;
    std::vector<Bytes> corpus;
    for (int i = 1; i < count; ++i) {
        const std::string argument = arguments[i];
        if (argument.rfind("-max_total_time=", 0) == 0) {
            seconds = std::stod(argument.substr(16));
        } else if (argument.rfind("-seed=", 0) == 0) {
            seed = std::stoull(argument.substr(6));
        } else if (argument[0] != '-') {
            for (const auto& entry : std::filesystem::directory_iterator(argument)) corpus.push_back(read(entry.path()));
        }
    }
    if (corpus.empty()) {
        std::fprintf(stderr, "no corpus: name a folder of inputs\n");
        return 2;
    }
    for (const Bytes& bytes : corpus) LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    std::mt19937_64 random(seed);
    const auto start = std::chrono::steady_clock::now();
    std::size_t runs = corpus.size();
    while (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < seconds) {
        Bytes bytes = corpus[random() % corpus.size()];
        mutate(bytes, corpus, random);
        // What fails can be found again: a copy is there as long as the run lasts.
        const std::filesystem::path last = std::filesystem::path(arguments[0]).concat(".last");
        if (std::FILE* file = std::fopen(last.c_str(), "wb")) {
            std::fwrite(bytes.data(), 1, bytes.size(), file);
            std::fclose(file);
        }
        LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
        ++runs;
    }
    std::printf("Done %zu runs in %.0f second(s), blindly, seed %llu\n", runs, seconds, static_cast<unsigned long long>(seed));
}
