#include "inflate/binding.h"

#include <nanobind/stl/string.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "common/python.h"
#include "inflate/decode.h"
#include "inflate/inflate.h"

namespace nb = nanobind;

namespace mmflow {
namespace {

class PyInflater {
   public:
    explicit PyInflater(const std::string& instruction_set)
        : inflater_(std::make_unique<Inflater>(find_decode_codes(instruction_set.c_str()))) {}

    nb::tuple inflate(std::uintptr_t in, std::size_t size, bool final, std::uintptr_t out, std::size_t room) {
        InflateResult result;
        {
            const Unlocked gil;
            const std::lock_guard<std::mutex> one(busy_);
            result = inflater_->inflate(reinterpret_cast<const std::uint8_t*>(in), size, final, reinterpret_cast<std::uint8_t*>(out), room);
        }
        const bool damaged = result.status >= InflateStatus::kTruncated;
        return nb::make_tuple(damaged ? nb::object(nb::str(describe(result.status))) : nb::none(),
                              result.status == InflateStatus::kEnd, result.consumed, result.produced);
    }

    std::uint64_t members() const noexcept { return inflater_->members(); }

    void stop_after(std::uint64_t size) {
        const std::lock_guard<std::mutex> one(busy_);
        inflater_->stop_after(size);
    }

    nb::object checkpoint() {
        const std::lock_guard<std::mutex> one(busy_);
        if (!inflater_->stopped()) return nb::none();
        const InflateCheckpoint at = inflater_->checkpoint();
        return nb::make_tuple(at.bit, at.crc, at.length, at.members, nb::bytes(reinterpret_cast<const char*>(at.history), at.reach));
    }

    void resume(unsigned bit, std::uint32_t crc, std::uint64_t length, std::uint64_t members, const nb::bytes& history) {
        if (bit > 7 || history.size() > kInflateHistory) throw nb::value_error("no checkpoint of an inflater");
        const std::lock_guard<std::mutex> one(busy_);
        inflater_->resume({bit, crc, length, members, reinterpret_cast<const std::uint8_t*>(history.c_str()), history.size()});
    }

   private:
    std::mutex busy_;
    std::unique_ptr<Inflater> inflater_;
};

}  // namespace

void add_inflater(nb::module_& m) {
    m.attr("INFLATE_HISTORY") = kInflateHistory;
    m.attr("INFLATE_SLACK") = kInflateSlack;
    nb::class_<PyInflater>(m, "Inflater")
        .def(nb::init<const std::string&>(), nb::arg("instruction_set"))
        .def("inflate", &PyInflater::inflate, nb::arg("address"), nb::arg("size"), nb::arg("final"), nb::arg("out"),
             nb::arg("room"),
             "Read on from input, and return what is wrong (or None), whether the file is at its end, and the bytes "
             "consumed and produced. `out` has INFLATE_HISTORY bytes before it, and INFLATE_SLACK behind `room`.")
        .def("stop_after", &PyInflater::stop_after, nb::arg("size"),
             "Let `inflate` end at the first block that begins behind so many more bytes.")
        .def("checkpoint", &PyInflater::checkpoint,
             "Return the state where `inflate` ended so, as `resume` takes it; None: it ended elsewhere.")
        .def("resume", &PyInflater::resume, nb::arg("bit"), nb::arg("crc"), nb::arg("length"), nb::arg("members"),
             nb::arg("history"), "Begin at a checkpoint; the next input is that from its byte on.")
        .def_prop_ro("members", &PyInflater::members, "Members that were begun.");
}

}  // namespace mmflow
