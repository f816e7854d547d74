// Python's view of the kernels: the only file that knows of Python.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "arrow_c.h"
#include "dispatch.h"
#include "guard.h"

namespace nb = nanobind;

namespace {

using mmflow::Kernels;

const Kernels* chosen = nullptr;

std::vector<std::string> simd_available() {
    std::vector<std::string> names;
    for (const Kernels* const* k = mmflow::available_kernels(); *k != nullptr; ++k) names.emplace_back((*k)->name);
    return names;
}

void simd_use(const std::string& name) {
    for (const Kernels* const* k = mmflow::available_kernels(); *k != nullptr; ++k) {
        if (name == (*k)->name) {
            chosen = *k;
            return;
        }
    }
    throw nb::value_error(("no such instruction set on this machine: " + name).c_str());
}

std::string simd_used() { return chosen->name; }

void hold_object(void* object) noexcept {
    nb::gil_scoped_acquire gil;
    Py_INCREF(static_cast<PyObject*>(object));
}

void drop_object(void* object) noexcept {
    // Whoever lets go last may be a thread of DataFusion, or come after the interpreter's end.
    if (!Py_IsInitialized()) return;
    nb::gil_scoped_acquire gil;
    Py_DECREF(static_cast<PyObject*>(object));
}

void release_capsule(PyObject* capsule) noexcept {
    auto* array = static_cast<ArrowArray*>(PyCapsule_GetPointer(capsule, "arrow_array"));
    if (array == nullptr) return;
    if (array->release != nullptr) array->release(array);
    std::free(array);
}

// Columns while they are filled.
struct Columns {
    std::vector<mmflow::Column> list;
    mmflow::Bytes offsets;

    explicit Columns(std::size_t count) : list(count) {}
    Columns(const Columns&) = delete;
    Columns& operator=(const Columns&) = delete;
    ~Columns() {
        for (mmflow::Column& column : list) column.release();
        offsets.release();
    }

    nb::object capsule(std::size_t rows, const std::uint8_t* data, std::size_t size, nb::handle owner) {
        const mmflow::Owner held{owner.ptr(), hold_object, drop_object};
        ArrowArray* array = mmflow::to_arrow(list.data(), list.size(), rows, data, size, held);
        if (array == nullptr) throw std::bad_alloc();
        return nb::steal(PyCapsule_New(array, "arrow_array", release_capsule));
    }
};

mmflow::Type type_of(nb::handle item) {
    const nb::tuple t = nb::cast<nb::tuple>(item);
    return {static_cast<mmflow::Kind>(nb::cast<int>(t[0])), nb::cast<int>(t[1]), nb::cast<int>(t[2]),
            nb::cast<bool>(t[3])};
}

// Decodes CSV; one call at a time.
class CsvReader {
   public:
    CsvReader(int fields, int delimiter, int quote, nb::list targets, nb::list filters, nb::list nulls, bool located) {
        for (nb::handle null : nulls) keep(null, nulls_);
        for (nb::handle item : targets) {
            const nb::tuple t = nb::cast<nb::tuple>(item);
            targets_.push_back({nb::cast<int>(t[0]), type_of(t[1])});
        }
        // field, type, test, low, high, texts
        filter_texts_.reserve(filters.size());
        for (nb::handle item : filters) {
            const nb::tuple t = nb::cast<nb::tuple>(item);
            mmflow::CsvFilter filter{};
            filter.field = nb::cast<int>(t[0]);
            filter.type = type_of(t[1]);
            filter.test = static_cast<mmflow::CsvFilter::Test>(nb::cast<int>(t[2]));
            if (filter.test == mmflow::CsvFilter::Test::kInt) {
                filter.low = nb::cast<std::int64_t>(t[3]);
                filter.high = nb::cast<std::int64_t>(t[4]);
            } else if (filter.test == mmflow::CsvFilter::Test::kReal) {
                filter.real_low = nb::cast<double>(t[3]);
                filter.real_high = nb::cast<double>(t[4]);
            }
            filter_texts_.emplace_back();
            for (nb::handle text : nb::cast<nb::tuple>(t[5])) keep(text, filter_texts_.back());
            filter.texts = filter_texts_.back().data();
            filter.text_count = filter_texts_.back().size();
            filters_.push_back(filter);
        }
        spec_ = {fields, static_cast<std::uint8_t>(delimiter), quote, targets_.data(), targets_.size(), filters_.data(),
                 filters_.size(), nulls_.data(), nulls_.size(), located};
    }
    CsvReader(const CsvReader&) = delete;
    CsvReader& operator=(const CsvReader&) = delete;
    ~CsvReader() { scratch_.release(); }

    // (status, consumed, records, rows, lines, first, array capsule, offsets)
    nb::tuple decode(std::uintptr_t address, std::size_t size, std::size_t stop, bool final, nb::handle owner) {
        const auto* data = reinterpret_cast<const std::uint8_t*>(address);
        Columns columns(targets_.size());
        for (std::size_t i = 0; i < targets_.size(); ++i) columns.list[i].type = targets_[i].type;
        mmflow::CsvResult r;
        {
            nb::gil_scoped_release gil;
            r = chosen->csv_decode(spec_, data, size, stop, final, scratch_, columns.list.data(), columns.offsets);
        }
        if (r.status == mmflow::Status::kNoMemory) throw std::bad_alloc();
        const nb::bytes offsets(reinterpret_cast<const char*>(columns.offsets.data), spec_.located ? r.rows * 8 : 0);
        return nb::make_tuple(static_cast<int>(r.status), r.consumed, r.records, r.rows, r.lines, r.first,
                              columns.capsule(r.rows, data, size, owner), offsets);
    }

   private:
    void keep(nb::handle text, std::vector<mmflow::Text>& into) {
        kept_.push_back(nb::borrow<nb::bytes>(text));
        const nb::bytes& bytes = kept_.back();
        into.push_back({static_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
    }

    std::vector<nb::bytes> kept_;
    std::vector<mmflow::Text> nulls_;
    std::vector<mmflow::CsvTarget> targets_;
    std::vector<std::vector<mmflow::Text>> filter_texts_;
    std::vector<mmflow::CsvFilter> filters_;
    mmflow::CsvSpec spec_{};
    mmflow::CsvScratch scratch_;
};

// Cuts text into lines; one call at a time.
class LinesReader {
   public:
    LinesReader(bool wanted, bool located, nb::bytes needle)
        : needle_(std::move(needle)),
          spec_{wanted, located, static_cast<const std::uint8_t*>(needle_.data()), needle_.size()} {}
    LinesReader(const LinesReader&) = delete;
    LinesReader& operator=(const LinesReader&) = delete;
    ~LinesReader() { scratch_.release(); }

    // (status, consumed, records, rows, newlines, array capsule, offsets)
    nb::tuple decode(std::uintptr_t address, std::size_t size, std::size_t stop, bool final, nb::handle owner) {
        const auto* data = reinterpret_cast<const std::uint8_t*>(address);
        Columns columns(1);
        columns.list[0].type.kind = mmflow::Kind::kString;
        mmflow::LinesResult r;
        {
            nb::gil_scoped_release gil;
            r = chosen->lines_decode(spec_, data, size, stop, final, scratch_, columns.list[0], columns.offsets);
        }
        if (r.status == mmflow::Status::kNoMemory) throw std::bad_alloc();
        const nb::bytes offsets(reinterpret_cast<const char*>(columns.offsets.data), spec_.located ? r.rows * 8 : 0);
        nb::object capsule = spec_.wanted ? columns.capsule(r.rows, data, size, owner) : nb::none();
        return nb::make_tuple(static_cast<int>(r.status), r.consumed, r.records, r.rows, r.newlines, capsule, offsets);
    }

   private:
    nb::bytes needle_;
    mmflow::LinesSpec spec_;
    mmflow::LinesScratch scratch_;
};

}  // namespace

NB_MODULE(_kernels, m) {
    m.doc() = "mmflow's native kernels.";
    chosen = *mmflow::available_kernels();

    m.def("simd_available", &simd_available, "Instruction sets that run here, the fastest first.");
    m.def("simd_use", &simd_use, nb::arg("name"), "Use this one; ValueError where it doesn't run here.");
    m.def("simd_used", &simd_used, "The one in use.");

    m.def("guard_install", &mmflow::guard_install, "Install the SIGBUS handler; 0, or an errno.");
    m.def("guard_register", &mmflow::guard_register, nb::arg("address"), nb::arg("length"),
          "Watch a mapped range; a token, or -1 if no more can be watched.");
    m.def("guard_release", &mmflow::guard_release, nb::arg("token"), "Stop watching; before the range is unmapped.");
    m.def("guard_hit", &mmflow::guard_hit, nb::arg("token"), "Was a fault in the range papered over?");
    m.def("guard_count", &mmflow::guard_count, "Ranges being watched.");

    nb::class_<CsvReader>(m, "CsvReader")
        .def(nb::init<int, int, int, nb::list, nb::list, nb::list, bool>(), nb::arg("fields"), nb::arg("delimiter"),
             nb::arg("quote"), nb::arg("targets"), nb::arg("filters"), nb::arg("nulls"), nb::arg("located"))
        .def("decode", &CsvReader::decode, nb::arg("address"), nb::arg("size"), nb::arg("stop"), nb::arg("final"),
             nb::arg("owner"));

    nb::class_<LinesReader>(m, "LinesReader")
        .def(nb::init<bool, bool, nb::bytes>(), nb::arg("wanted"), nb::arg("located"), nb::arg("needle"))
        .def("decode", &LinesReader::decode, nb::arg("address"), nb::arg("size"), nb::arg("stop"), nb::arg("final"),
             nb::arg("owner"));
}
