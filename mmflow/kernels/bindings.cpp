// The Python module of the kernels.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <type_traits>
#include <vector>

#include "aggregate/binding.h"
#include "common/arrow_c.h"
#include "common/columns.h"
#include "common/python.h"
#include "csv/known.h"
#include "dictionary.h"
#include "exchange/binding.h"
#include "simd/dispatch.h"
#include "filling.h"
#include "gather.h"
#include "guard.h"
#include "hashing.h"
#include "inflate/binding.h"
#include "lengths.h"
#include "program/binding.h"
#include "scan/binding.h"
#include "scan/loop.h"
#include "sort/binding.h"

namespace nb = nanobind;

namespace {

using mmflow::Columns;
using mmflow::Kernels;
using mmflow::Locked;
using mmflow::Unlocked;

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

void retain_object(void* object) noexcept {
    const Locked gil;
    Py_INCREF(static_cast<PyObject*>(object));
}

void release_object(void* object) noexcept {
    // The last reference may go on a thread of DataFusion, or after the interpreter's end.
    if (!Py_IsInitialized()) return;
    const Locked gil;
    Py_DECREF(static_cast<PyObject*>(object));
}

// Returns the result of a reader: (status, consumed, records, rows, lines, array capsule, offsets). String views of the
// array point into `data`, which `owner` keeps alive.
nb::tuple to_python(Columns& columns, const mmflow::RecordsResult& r, bool located, const std::uint8_t* data,
                    std::size_t size, nb::handle owner) {
    if (r.status == mmflow::Status::kNoMemory) throw std::bad_alloc();
    const nb::bytes places(reinterpret_cast<const char*>(columns.offsets.data), located ? r.rows * 8 : 0);
    const mmflow::Owner held{owner.ptr(), retain_object, release_object};
    ArrowArray* array = mmflow::to_arrow(columns.list.data(), columns.list.size(), r.rows, data, size, held);
    if (array == nullptr) throw std::bad_alloc();
    const nb::object capsule = mmflow::array_capsule(array);
    return nb::make_tuple(static_cast<int>(r.status), r.consumed, r.records, r.rows, r.lines, capsule, places);
}

// Columns and filters of a reader, with the memory that they point to.
class ReaderSpec {
   public:
    // targets: (field, type); filters: (field, type, test, low, high, texts). A type is (kind, digits, scale, zoned,
    // children, exact, closed), or that and a style; a child (name, type).
    ReaderSpec(const nb::list& targets, const nb::list& filters) {
        for (nb::handle item : targets) {
            const nb::tuple t = nb::cast<nb::tuple>(item);
            targets_.push_back({nb::cast<int>(t[0]), type(t[1])});
        }
        filter_texts_.reserve(filters.size());
        for (nb::handle item : filters) {
            const nb::tuple t = nb::cast<nb::tuple>(item);
            mmflow::Filter filter{};
            filter.field = nb::cast<int>(t[0]);
            filter.type = type(t[1]);
            filter.test = static_cast<mmflow::Filter::Test>(nb::cast<int>(t[2]));
            if (filter.test == mmflow::Filter::Test::kInt) {
                filter.low = nb::cast<std::int64_t>(t[3]);
                filter.high = nb::cast<std::int64_t>(t[4]);
            } else if (filter.test == mmflow::Filter::Test::kReal) {
                filter.real_low = nb::cast<double>(t[3]);
                filter.real_high = nb::cast<double>(t[4]);
            }
            filter_texts_.emplace_back();
            for (nb::handle one : nb::cast<nb::tuple>(t[5])) filter_texts_.back().push_back(text(one));
            filter.texts = filter_texts_.back().data();
            filter.text_count = filter_texts_.back().size();
            filters_.push_back(filter);
        }
    }

    mmflow::Text text(nb::handle bytes) {
        kept_.push_back(nb::borrow<nb::bytes>(bytes));
        return {static_cast<const std::uint8_t*>(kept_.back().data()), kept_.back().size()};
    }

    const std::vector<mmflow::Target>& targets() const { return targets_; }
    const std::vector<mmflow::Filter>& filters() const { return filters_; }

   private:
    mmflow::Type type(nb::handle item) {
        const nb::tuple t = nb::cast<nb::tuple>(item);
        mmflow::Type made{static_cast<mmflow::Kind>(nb::cast<int>(t[0])), nb::cast<int>(t[1]), nb::cast<int>(t[2]),
                          nb::cast<bool>(t[3]), nb::cast<bool>(t[5]), nb::cast<bool>(t[6])};
        std::vector<mmflow::Type> children;
        std::vector<mmflow::Text> names;
        for (nb::handle child : nb::cast<nb::tuple>(t[4])) {
            const nb::tuple pair = nb::cast<nb::tuple>(child);
            names.push_back(text(pair[0]));
            children.push_back(type(pair[1]));
        }
        made.child_count = children.size();
        if (t.size() > 7) made.style = style(t[7]);
        children_.push_back(std::move(children));
        names_.push_back(std::move(names));
        made.children = children_.back().data();
        made.names = names_.back().data();
        return made;
    }

    // (nulls or None, decimal, thousands, trues, falses, formats, clock or None, epoch). A format is (steps, layout of a
    // date or empty), a clock (starts, offsets), of int64.
    const mmflow::Style* style(nb::handle item) {
        const nb::tuple t = nb::cast<nb::tuple>(item);
        mmflow::Style made;
        made.own_nulls = !t[0].is_none();
        if (made.own_nulls) made.nulls = texts(t[0], made.null_count);
        made.decimal = static_cast<std::uint8_t>(nb::cast<int>(t[1]));
        const mmflow::Text thousands = text(t[2]);
        made.thousands = thousands.data;
        made.thousands_size = thousands.size;
        made.trues = texts(t[3], made.true_count);
        made.falses = texts(t[4], made.false_count);
        std::vector<mmflow::TimeForm> forms;
        for (nb::handle one : nb::cast<nb::tuple>(t[5])) {
            const nb::tuple pair = nb::cast<nb::tuple>(one);
            const mmflow::Text steps = text(pair[0]), layout = text(pair[1]);
            mmflow::TimeForm form{steps.data, steps.size / 2, {}};
            if (layout.size == sizeof(mmflow::DateLayout)) std::memcpy(&form.layout, layout.data, layout.size);
            forms.push_back(form);
        }
        forms_.push_back(std::move(forms));
        made.forms = forms_.back().data();
        made.form_count = forms_.back().size();
        if (!t[6].is_none()) {
            const nb::tuple pair = nb::cast<nb::tuple>(t[6]);
            made.clock.starts = numbers(pair[0], made.clock.count);
            made.clock.offsets = numbers(pair[1], made.clock.count);
        }
        made.epoch = nb::cast<int>(t[7]);
        styles_.push_back(made);
        return &styles_.back();
    }

    const mmflow::Text* texts(nb::handle item, std::size_t& count) {
        std::vector<mmflow::Text> made;
        for (nb::handle one : nb::cast<nb::tuple>(item)) made.push_back(text(one));
        count = made.size();
        names_.push_back(std::move(made));
        return names_.back().data();
    }

    const std::int64_t* numbers(nb::handle item, std::size_t& count) {
        const mmflow::Text bytes = text(item);
        count = bytes.size / 8;
        numbers_.emplace_back(count);
        if (count) std::memcpy(numbers_.back().data(), bytes.data, count * 8);
        return numbers_.back().data();
    }

    std::vector<nb::bytes> kept_;
    std::deque<std::vector<mmflow::TimeForm>> forms_;
    std::deque<std::vector<std::int64_t>> numbers_;
    std::deque<mmflow::Style> styles_;
    std::deque<std::vector<mmflow::Type>> children_;
    std::deque<std::vector<mmflow::Text>> names_;
    std::vector<mmflow::Target> targets_;
    std::vector<std::vector<mmflow::Text>> filter_texts_;
    std::vector<mmflow::Filter> filters_;
};

// Base of the readers. Not thread-safe.
template <class Spec, class Scratch>
class Reader : public mmflow::RecordReader {
   public:
    Reader(const nb::list& targets, const nb::list& filters) : reader_spec_(targets, filters) {}
    ~Reader() override { scratch_.release(); }

    const std::vector<mmflow::Target>& targets() const noexcept override { return reader_spec_.targets(); }

    mmflow::RecordsResult read(const std::uint8_t* data, std::size_t size, std::size_t stop, bool final, std::size_t most,
                               mmflow::Column* columns, mmflow::Bytes& offsets) noexcept override {
        spec_.most_bytes = most;
        if constexpr (std::is_same_v<Spec, mmflow::CsvSpec>) {
            return chosen->csv_decode(spec_, data, size, stop, final, scratch_, columns, offsets);
        } else if constexpr (std::is_same_v<Spec, mmflow::JsonSpec>) {
            return chosen->json_decode(spec_, data, size, stop, final, scratch_, columns, offsets);
        } else {
            return chosen->lines_decode(spec_, data, size, stop, final, scratch_, columns, offsets);
        }
    }

    mmflow::RecordsResult read_known(std::size_t key, const mmflow::KnownTable& known, const std::uint8_t* data,
                                     std::size_t size, std::size_t stop, bool final, mmflow::Column* columns) noexcept override {
        if constexpr (std::is_same_v<Spec, mmflow::CsvSpec>) {
            if (mmflow::may_be_known(spec_, key))
                return mmflow::find_csv_known(chosen->name)(spec_, key, known, data, size, stop, final, scratch_, columns);
        }
        return mmflow::RecordReader::read_known(key, known, data, size, stop, final, columns);
    }

    // `most`: bytes of columns after which the call ends; 0: it reads all.
    nb::tuple decode(std::uintptr_t address, std::size_t size, std::size_t stop, bool final, nb::handle owner,
                     std::size_t most) {
        const auto* data = reinterpret_cast<const std::uint8_t*>(address);
        Columns columns(reader_spec_.targets());
        mmflow::RecordsResult r;
        {
            const Unlocked gil;
            r = read(data, size, stop, final, most, columns.list.data(), columns.offsets);
        }
        return to_python(columns, r, spec_.located, data, size, owner);
    }

   protected:
    ReaderSpec reader_spec_;
    Spec spec_{};
    Scratch scratch_;
};

class CsvReader : public Reader<mmflow::CsvSpec, mmflow::CsvScratch> {
   public:
    CsvReader(int fields, int delimiter, int quote, nb::list targets, nb::list filters, nb::list nulls, bool located,
              bool quoted_null)
        : Reader(targets, filters) {
        for (nb::handle null : nulls) nulls_.push_back(reader_spec_.text(null));
        spec_ = {fields, static_cast<std::uint8_t>(delimiter), quote, reader_spec_.targets().data(),
                 reader_spec_.targets().size(), reader_spec_.filters().data(), reader_spec_.filters().size(), nulls_.data(),
                 nulls_.size(), located, quoted_null};
    }

   private:
    std::vector<mmflow::Text> nulls_;
};

// Makes odd CSV canonical. Not thread-safe.
nb::tuple fill(int descriptor, int wake, std::uintptr_t address, std::size_t size, double seconds, bool came_before) {
    mmflow::Filled found;
    {
        const Unlocked gil;
        found = mmflow::fill(descriptor, wake, reinterpret_cast<std::uint8_t*>(address), size, seconds, came_before);
    }
    return nb::make_tuple(found.size, static_cast<int>(found.end), found.error);
}

std::size_t follow_lengths(std::uintptr_t address, std::size_t size, std::size_t width, bool big_endian, std::uintptr_t ends,
                           std::size_t capacity) {
    const Unlocked gil;
    return mmflow::follow_lengths(reinterpret_cast<const std::uint8_t*>(address), size, width, big_endian,
                                  reinterpret_cast<std::int64_t*>(ends), capacity);
}

class CsvNormaliser {
   public:
    // flags: trim, lenient, returns, trailing, fill, cut, extra, keep_broken, stop_broken
    CsvNormaliser(std::size_t fields, nb::bytes delimiter, int quote, int escape, nb::bytes comment, nb::list flags,
                  int out_delimiter, int out_quote)
        : delimiter_(std::move(delimiter)), comment_(std::move(comment)) {
        bool on[9];
        for (std::size_t i = 0; i < 9; ++i) on[i] = nb::cast<bool>(flags[i]);
        spec_ = {fields, text(delimiter_), quote < 0 ? -2 : quote, escape < 0 ? -3 : escape, text(comment_), on[0], on[1],
                 on[2], on[3], on[4], on[5], on[6], on[7], on[8], static_cast<std::uint8_t>(out_delimiter),
                 static_cast<std::uint8_t>(out_quote)};
    }
    CsvNormaliser(const CsvNormaliser&) = delete;
    CsvNormaliser& operator=(const CsvNormaliser&) = delete;
    ~CsvNormaliser() {
        scratch_.release();
        tables_.release();
    }

    nb::tuple normalise(std::uintptr_t address, std::size_t size, std::size_t stop, bool final, std::uintptr_t out,
                        std::size_t capacity) {
        mmflow::NormalResult r;
        {
            const Unlocked gil;
            r = mmflow::normalise(spec_, chosen->write_regular, reinterpret_cast<const std::uint8_t*>(address), size, stop,
                                  final, reinterpret_cast<std::uint8_t*>(out), capacity, scratch_, tables_);
        }
        if (r.status == mmflow::Status::kNoMemory) throw std::bad_alloc();
        const auto table = [](const mmflow::Bytes& rows, std::size_t count, std::size_t width) {
            return nb::bytes(reinterpret_cast<const char*>(rows.data), count * width * 8);
        };
        return nb::make_tuple(r.consumed, r.size, r.records, r.lines, r.needed, table(tables_.pieces, tables_.piece_count, 4),
                              table(tables_.broken, tables_.broken_count, 5), table(tables_.repairs, tables_.repair_count, 6));
    }

   private:
    static mmflow::Text text(const nb::bytes& bytes) {
        return {static_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
    }

    nb::bytes delimiter_, comment_;
    mmflow::NormalSpec spec_{};
    mmflow::NormalScratch scratch_;
    mmflow::NormalTables tables_;
};

class JsonReader : public Reader<mmflow::JsonSpec, mmflow::JsonScratch> {
   public:
    // keys: (name, slot)
    JsonReader(nb::list keys, bool closed, int slots, nb::list targets, nb::list filters, bool located, int extra)
        : Reader(targets, filters) {
        for (nb::handle item : keys) {
            const nb::tuple t = nb::cast<nb::tuple>(item);
            keys_.push_back({reader_spec_.text(t[0]), nb::cast<int>(t[1])});
        }
        spec_ = {keys_.data(), keys_.size(), closed, slots, reader_spec_.targets().data(), reader_spec_.targets().size(),
                 reader_spec_.filters().data(), reader_spec_.filters().size(), located, extra};
    }

   private:
    std::vector<mmflow::JsonKey> keys_;
};

// Gives a buffer to Python: (address, size, owner).
nb::tuple owned(mmflow::Bytes& bytes, std::size_t size) {
    auto* kept = new mmflow::Bytes(bytes);
    bytes = {};
    const nb::capsule owner(kept, [](void* p) noexcept {
        static_cast<mmflow::Bytes*>(p)->release();
        delete static_cast<mmflow::Bytes*>(p);
    });
    return nb::make_tuple(reinterpret_cast<std::uintptr_t>(kept->data), size, owner);
}

// Walk over JSON documents (json/walk.h): where it is travels with each call. Thread-safe.
class JsonWalker {
   public:
    // steps: the key of an object, or None for the items of a list
    explicit JsonWalker(const nb::list& steps) {
        for (nb::handle item : steps) {
            if (item.is_none()) {
                steps_.push_back({true, {nullptr, 0}});
                continue;
            }
            kept_.push_back(nb::borrow<nb::bytes>(item));
            steps_.push_back({false, {static_cast<const std::uint8_t*>(kept_.back().data()), kept_.back().size()}});
        }
    }

    // cursor: (level, phase, first, matched, depth, inside, escape). Returns (consumed, at_record, records, newlines,
    // problem, its offset, cursor, places, lines: (address, size, owner)).
    nb::tuple walk(std::uintptr_t address, std::size_t size, std::size_t stop, bool final, bool copies,
                   const nb::tuple& cursor) const {
        mmflow::JsonCursor at{nb::cast<int>(cursor[0]), static_cast<mmflow::JsonPhase>(nb::cast<int>(cursor[1])),
                              nb::cast<bool>(cursor[2]), nb::cast<bool>(cursor[3]), nb::cast<std::int64_t>(cursor[4]),
                              nb::cast<bool>(cursor[5]) ? ~0ull : 0ull, nb::cast<std::uint64_t>(cursor[6])};
        mmflow::JsonWalkOut out{{}, {}, copies};
        mmflow::JsonWalked walked;
        {
            const Unlocked gil;
            walked = chosen->json_walk(steps_.data(), steps_.size(), at, reinterpret_cast<const std::uint8_t*>(address),
                                       size, stop, final, out);
        }
        if (walked.problem == mmflow::JsonProblem::kNoMemory) {
            out.release();
            throw std::bad_alloc();
        }
        const nb::tuple text = owned(out.lines, walked.written);
        const nb::bytes places(reinterpret_cast<const char*>(out.places.data), copies ? walked.records * 24 : 0);
        out.places.release();
        const nb::tuple moved = nb::make_tuple(at.level, static_cast<int>(at.phase), at.first, at.matched, at.depth,
                                               at.inside != 0, at.escape);
        return nb::make_tuple(walked.consumed, walked.at_record, walked.records, walked.lines,
                              static_cast<int>(walked.problem), walked.problem_at, moved, places, text);
    }

   private:
    std::vector<nb::bytes> kept_;
    std::vector<mmflow::JsonStep> steps_;
};

class LinesReader : public Reader<mmflow::LinesSpec, mmflow::LinesScratch> {
   public:
    // targets: empty, or the line as text
    LinesReader(nb::list targets, bool located, nb::bytes needle) : Reader(targets, nb::list()) {
        const mmflow::Text text = reader_spec_.text(needle);
        spec_ = {!reader_spec_.targets().empty(), located, text.data, text.size};
    }
};

// Reader of fixed-width records. Not thread-safe.
class RecordsReader {
   public:
    // fields: (offset, width, form)
    RecordsReader(nb::list fields, std::size_t size) : size_(size) {
        for (nb::handle item : fields) {
            const nb::tuple t = nb::cast<nb::tuple>(item);
            const auto form = static_cast<mmflow::RecordField::Form>(nb::cast<int>(t[2]));
            fields_.push_back({nb::cast<std::size_t>(t[0]), nb::cast<std::size_t>(t[1]), form});
            // Values leave as bytes of the field's width; Python gives them their type.
            const bool text = form == mmflow::RecordField::Form::kText;
            targets_.push_back({0, {text ? mmflow::Kind::kString : mmflow::Kind::kUInt8}});
        }
    }

    nb::tuple decode(std::uintptr_t address, std::size_t count, nb::handle owner) {
        const auto* data = reinterpret_cast<const std::uint8_t*>(address);
        Columns columns(targets_);
        mmflow::RecordsResult r;
        {
            const Unlocked gil;
            r = mmflow::gather_records(fields_.data(), fields_.size(), data, count, size_, columns.list.data());
        }
        return to_python(columns, r, false, data, count * size_, owner);
    }

   private:
    std::size_t size_;
    std::vector<mmflow::RecordField> fields_;
    std::vector<mmflow::Target> targets_;
};

const std::uint8_t* at(std::uintptr_t address) { return reinterpret_cast<const std::uint8_t*>(address); }

int text_views(std::uintptr_t offsets, std::size_t width, std::uintptr_t data, std::size_t size, std::uintptr_t bits,
               std::size_t count, int piece, std::uintptr_t views) {
    const Unlocked gil;
    const mmflow::TextColumn text{at(offsets), width, at(data), size, at(bits), count};
    return static_cast<int>(chosen->text_views(text, piece, reinterpret_cast<std::uint8_t*>(views)));
}

// Values at a path of texts of JSON (json/extract.h). Thread-safe.
class JsonExtractor {
   public:
    // steps: the key of an object, or the number of an item
    JsonExtractor(const nb::list& steps, int result) : result_(static_cast<mmflow::JsonResult>(result)) {
        for (nb::handle item : steps) {
            if (!nb::isinstance<nb::bytes>(item)) {
                steps_.push_back({true, nb::cast<std::int64_t>(item), {nullptr, 0}});
                continue;
            }
            kept_.push_back(nb::borrow<nb::bytes>(item));
            steps_.push_back({false, 0, {static_cast<const std::uint8_t*>(kept_.back().data()), kept_.back().size()}});
        }
    }

    // Returns values, text beside the texts, validity (each (address, size, owner)), and the numbers of the texts that need
    // the fallback (int64).
    nb::tuple extract(std::uintptr_t views, const std::vector<std::uintptr_t>& buffers, std::uintptr_t bits,
                      std::size_t offset, std::size_t count) const {
        std::vector<const std::uint8_t*> pointers;
        for (const std::uintptr_t address : buffers) pointers.push_back(at(address));
        mmflow::JsonExtracted out;
        mmflow::Status status;
        {
            const Unlocked gil;
            const mmflow::JsonTexts texts{at(views), pointers.data(), pointers.size(), {at(bits), offset}, count};
            status = chosen->json_extract({steps_.data(), steps_.size(), result_}, texts, out);
        }
        if (status == mmflow::Status::kNoMemory) {
            out.release();
            throw std::bad_alloc();
        }
        const nb::bytes fallback(reinterpret_cast<const char*>(out.fallback.data), out.fallback_count * 8);
        out.fallback.release();
        const std::size_t width = mmflow::json_width(result_);
        return nb::make_tuple(owned(out.values, count * width), owned(out.side, out.side_size),
                              owned(out.validity, (count + 7) / 8), fallback);
    }

   private:
    mmflow::JsonResult result_;
    std::vector<nb::bytes> kept_;
    std::vector<mmflow::JsonValueStep> steps_;
};

// Translation to UTF-8, see encodings.h.
class TextTranslator {
   public:
    // Tables are addresses, 0 where there are none; who makes this keeps them.
    TextTranslator(int form, bool superset, std::uintptr_t singles, std::uintptr_t pairs, std::uintptr_t triples,
                   std::uintptr_t fours)
        : spec_{static_cast<mmflow::TextForm>(form),
                {superset, reinterpret_cast<const std::uint64_t*>(singles), reinterpret_cast<const std::uint64_t*>(pairs),
                 reinterpret_cast<const std::uint64_t*>(triples), reinterpret_cast<const std::uint32_t*>(fours)}} {}

    std::size_t bound(std::uintptr_t data, std::size_t size) const {
        const Unlocked gil;
        return chosen->text_bound(spec_, at(data), size);
    }

    nb::tuple translate(std::uintptr_t data, std::size_t size, bool final, std::uintptr_t out, std::uintptr_t places) const {
        mmflow::TextResult r;
        {
            const Unlocked gil;
            r = chosen->text_translate(spec_, at(data), size, final, reinterpret_cast<std::uint8_t*>(out),
                                       reinterpret_cast<mmflow::TextPlace*>(places));
        }
        return nb::make_tuple(r.consumed, r.written, r.places);
    }

    void locate(std::uintptr_t data, std::size_t size, std::uintptr_t places, std::size_t place_count,
                std::uintptr_t offsets, std::size_t count) const {
        const Unlocked gil;
        chosen->text_locate(spec_, at(data), size, reinterpret_cast<const mmflow::TextPlace*>(places), place_count,
                            reinterpret_cast<std::int64_t*>(offsets), count);
    }

   private:
    mmflow::TextSpec spec_;
};

// The dictionary of dictionary.h. Not thread-safe.
class TextDictionary {
   public:
    TextDictionary(std::size_t most_values, std::size_t most_bytes) : kernel_(most_values, most_bytes) {}

    std::size_t encode(std::uintptr_t views, const std::vector<std::uintptr_t>& buffers, std::uintptr_t bits,
                       std::size_t offset, std::size_t count, std::uintptr_t codes) {
        std::vector<const std::uint8_t*> pointers;
        for (const std::uintptr_t address : buffers) pointers.push_back(at(address));
        const Unlocked gil;
        return kernel_.encode(at(views), pointers.data(), {at(bits), offset}, count,
                              reinterpret_cast<std::int32_t*>(codes));
    }

    nb::tuple values() const {
        const std::size_t count = kernel_.values();
        const auto bytes = [](const std::uint8_t* p, std::size_t n) {
            return nb::bytes(reinterpret_cast<const char*>(p), n);
        };
        if (count == 0) return nb::make_tuple(nb::bytes("\0\0\0\0", 4), nb::bytes("", 0));
        return nb::make_tuple(bytes(kernel_.offsets(), (count + 1) * 4), bytes(kernel_.text(), kernel_.text_size()));
    }

   private:
    mmflow::TextDictionary kernel_;
};

// Adds the functions of hashing.h; each takes addresses, and `bits` 0 where no value is null.
void add_hashing(nb::module_& m) {
    using mmflow::Validity;
    using Address = std::uintptr_t;
    const auto state_at = [](Address address) { return reinterpret_cast<std::uint64_t*>(address); };
    m.def("hash_whole", [=](Address values, std::size_t width, bool is_signed, Address bits, std::size_t offset,
                            std::size_t count, Address state) {
        const Unlocked gil;
        mmflow::hash_whole(at(values), width, is_signed, {at(bits), offset}, count, state_at(state));
    });
    m.def("hash_real", [=](Address values, std::size_t width, Address bits, std::size_t offset, std::size_t count,
                           Address state) {
        const Unlocked gil;
        mmflow::hash_real(at(values), width, {at(bits), offset}, count, state_at(state));
    });
    m.def("hash_fixed", [=](Address values, std::size_t width, Address bits, std::size_t offset, std::size_t count,
                            Address state) {
        const Unlocked gil;
        mmflow::hash_fixed(at(values), width, {at(bits), offset}, count, state_at(state));
    });
    m.def("hash_text", [=](Address offsets, std::size_t width, Address data, Address bits, std::size_t offset,
                           std::size_t count, Address state) {
        const Unlocked gil;
        mmflow::hash_text(at(offsets), width, at(data), {at(bits), offset}, count, state_at(state));
    });
    m.def("hash_views", [=](Address views, const std::vector<Address>& buffers, Address bits, std::size_t offset,
                            std::size_t count, Address state) {
        std::vector<const std::uint8_t*> pointers;
        for (const Address address : buffers) pointers.push_back(at(address));
        const Unlocked gil;
        mmflow::hash_views(at(views), pointers.data(), {at(bits), offset}, count, state_at(state));
    });
    m.def("partition_rows", [=](Address state, std::size_t count, std::size_t partitions, Address order,
                                Address bounds) {
        const Unlocked gil;
        mmflow::partition_rows(state_at(state), count, partitions, reinterpret_cast<std::int64_t*>(order),
                               reinterpret_cast<std::int64_t*>(bounds));
    });
}

}  // namespace

NB_MODULE(_kernels, m) {
    m.doc() = "mmflow's native kernels.";
    chosen = *mmflow::available_kernels();

    m.def("simd_available", &simd_available, "Instruction sets that run here, the fastest first.");
    m.def("simd_use", &simd_use, nb::arg("name"), "Use an instruction set; ValueError where it doesn't run here.");
    m.def("simd_used", &simd_used, "The instruction set in use.");

    m.def("fill", &fill, nb::arg("descriptor"), nb::arg("wake"), nb::arg("address"), nb::arg("size"), nb::arg("seconds"),
          nb::arg("came_before"), "Read until the memory is full; return (bytes, how it ended, errno), see filling.h.");
    m.def("follow_lengths", &follow_lengths, nb::arg("address"), nb::arg("size"), nb::arg("width"), nb::arg("big_endian"),
          nb::arg("ends"), nb::arg("capacity"), "Write the ends of records, and return how many there are.");

    m.def("guard_install", &mmflow::guard_install, "Install the SIGBUS handler; 0, or an errno.");
    m.def("guard_register", &mmflow::guard_register, nb::arg("address"), nb::arg("length"),
          "Watch a mapped range and return its token, or -1 if no more can be watched.");
    m.def("guard_release", &mmflow::guard_release, nb::arg("token"), "Stop watching; before the range is unmapped.");
    m.def("guard_hit", &mmflow::guard_hit, nb::arg("token"), "Whether a fault in the range was answered with zeros.");
    m.def("guard_count", &mmflow::guard_count, "Ranges being watched.");

    m.def("threads_left", [] { nb::set_leak_warnings(false); },
          "Note that threads outlive the interpreter: what they hold is no leak to be told of.");

    mmflow::add_scan_loop(m);  // the base of the readers

    nb::class_<CsvReader, mmflow::RecordReader>(m, "CsvReader")
        .def(nb::init<int, int, int, nb::list, nb::list, nb::list, bool, bool>(), nb::arg("fields"),
             nb::arg("delimiter"), nb::arg("quote"), nb::arg("targets"), nb::arg("filters"), nb::arg("nulls"),
             nb::arg("located"), nb::arg("quoted_null") = false)
        .def("decode", &CsvReader::decode, nb::arg("address"), nb::arg("size"), nb::arg("stop"), nb::arg("final"),
             nb::arg("owner"), nb::arg("most") = 0);

    nb::class_<CsvNormaliser>(m, "CsvNormaliser")
        .def(nb::init<std::size_t, nb::bytes, int, int, nb::bytes, nb::list, int, int>(), nb::arg("fields"),
             nb::arg("delimiter"), nb::arg("quote"), nb::arg("escape"), nb::arg("comment"), nb::arg("flags"),
             nb::arg("out_delimiter"), nb::arg("out_quote"))
        .def("normalise", &CsvNormaliser::normalise, nb::arg("address"), nb::arg("size"), nb::arg("stop"),
             nb::arg("final"), nb::arg("out"), nb::arg("capacity"),
             "Return consumed, size, records, lines, needed room, and tables of pieces, broken records and repairs.");

    nb::class_<JsonReader, mmflow::RecordReader>(m, "JsonReader")
        .def(nb::init<nb::list, bool, int, nb::list, nb::list, bool, int>(), nb::arg("keys"), nb::arg("closed"),
             nb::arg("slots"), nb::arg("targets"), nb::arg("filters"), nb::arg("located"), nb::arg("extra") = -1)
        .def("decode", &JsonReader::decode, nb::arg("address"), nb::arg("size"), nb::arg("stop"), nb::arg("final"),
             nb::arg("owner"), nb::arg("most") = 0);

    nb::class_<JsonWalker>(m, "JsonWalker")
        .def(nb::init<nb::list>(), nb::arg("steps"))
        .def("walk", &JsonWalker::walk, nb::arg("address"), nb::arg("size"), nb::arg("stop"), nb::arg("final"),
             nb::arg("copies"), nb::arg("cursor"));

    nb::class_<JsonExtractor>(m, "JsonExtractor")
        .def(nb::init<nb::list, int>(), nb::arg("steps"), nb::arg("result"))
        .def("extract", &JsonExtractor::extract, nb::arg("views"), nb::arg("buffers"), nb::arg("bits"),
             nb::arg("offset"), nb::arg("count"));

    nb::class_<LinesReader, mmflow::RecordReader>(m, "LinesReader")
        .def(nb::init<nb::list, bool, nb::bytes>(), nb::arg("targets"), nb::arg("located"), nb::arg("needle"))
        .def("decode", &LinesReader::decode, nb::arg("address"), nb::arg("size"), nb::arg("stop"), nb::arg("final"),
             nb::arg("owner"), nb::arg("most") = 0);

    nb::class_<RecordsReader>(m, "RecordsReader")
        .def(nb::init<nb::list, std::size_t>(), nb::arg("fields"), nb::arg("size"))
        .def("decode", &RecordsReader::decode, nb::arg("address"), nb::arg("count"), nb::arg("owner"));

    nb::class_<TextDictionary>(m, "TextDictionary")
        .def(nb::init<std::size_t, std::size_t>(), nb::arg("most_values"), nb::arg("most_bytes"))
        .def("encode", &TextDictionary::encode, nb::arg("views"), nb::arg("buffers"), nb::arg("bits"),
             nb::arg("offset"), nb::arg("count"), nb::arg("codes"),
             "Encode rows and return how many; fewer than `count` where it gives up.")
        .def("values", &TextDictionary::values, "Return the values by code: int32 offsets, text.");

    m.def("text_views", &text_views, nb::arg("offsets"), nb::arg("width"), nb::arg("data"), nb::arg("size"),
          nb::arg("bits"), nb::arg("count"), nb::arg("piece"), nb::arg("views"),
          "Write the views of a column of text, see views.h; 0, or nonzero where it needs the fallback.");

    nb::class_<TextTranslator>(m, "TextTranslator")
        .def(nb::init<int, bool, std::uintptr_t, std::uintptr_t, std::uintptr_t, std::uintptr_t>(), nb::arg("form"),
             nb::arg("superset"), nb::arg("singles"), nb::arg("pairs"), nb::arg("triples"), nb::arg("fours"))
        .def("bound", &TextTranslator::bound, nb::arg("data"), nb::arg("size"),
             "Return the bytes that the output needs; 0 where the input is UTF-8 already.")
        .def("translate", &TextTranslator::translate, nb::arg("data"), nb::arg("size"), nb::arg("final"),
             nb::arg("out"), nb::arg("places"), "Translate, and return (consumed, written, places).")
        .def("locate", &TextTranslator::locate, nb::arg("data"), nb::arg("size"), nb::arg("places"),
             nb::arg("place_count"), nb::arg("offsets"), nb::arg("count"),
             "Replace offsets in the output by those in the input.");

    add_hashing(m);
    mmflow::program::add_binding(m);
    mmflow::add_aggregator(m);
    mmflow::add_partitions(m);
    mmflow::add_inflater(m);
    mmflow::add_row_order(m);
}
