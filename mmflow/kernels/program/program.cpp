#include "program/program.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <stdexcept>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "program/output.h"
#include "program/primitives.h"
#include "program/text.h"

namespace mmflow::program {
namespace {

// Rows that are computed at a time: the vectors of some ten nodes stay in the second level cache.
constexpr std::size_t kSlice = 8192;
// Slices after which conjuncts are put in order again.
constexpr int kReorder = 16;

std::size_t width_of(Form form) noexcept {
    switch (form) {
        case Form::kBool: case Form::kI8: case Form::kU8: return 1;
        case Form::kI16: case Form::kU16: return 2;
        case Form::kI32: case Form::kU32: case Form::kF32: return 4;
        case Form::kI64: case Form::kU64: case Form::kF64: return 8;
        default: return 16;
    }
}

// Rows of a slice that values are computed for: `rows`, counted from `base`, or all `n` from there on. `epoch` is its
// own: vectors that are known for one domain are not for another.
struct Domain {
    std::size_t base;
    const std::uint32_t* rows;
    std::size_t n;
    std::uint64_t epoch;
};

// Values of a node. `valid`: a byte for each row; null: none is null.
struct Vec {
    const std::uint8_t* values = nullptr;
    const std::uint8_t* valid = nullptr;
    bool constant = false;

    template <class T>
    const T* as() const noexcept { return reinterpret_cast<const T*>(values); }
};

// Set of text or of values of up to 16 bytes.
struct ListSet {
    std::vector<std::string> texts;
    std::unordered_set<std::string_view> hashed;  // of `texts`
    std::vector<std::uint8_t> values;             // dense
    std::size_t count = 0;
    bool has_null = false;
};

// Node with its memory.
struct Compiled {
    Node node{};
    Vec result;
    std::uint64_t epoch = 0;
    Bytes values, valid, fits, rows_a, rows_b;
    Bytes spare[4];  // of lazy branches: values and validity, spread over all rows
    Binary binary = nullptr;
    Unary unary = nullptr;
    bool fallible = false;
    std::size_t width = 0;
    std::string constant;  // value of a constant
    Text text{nullptr, 0};
    std::unique_ptr<LikePattern> like;
    std::unique_ptr<ListSet> list;
    std::uint8_t view[16] = {};  // of a constant text that is compared with a column of views
    bool on_views = false;

    void release() noexcept {
        for (Bytes* bytes : {&values, &valid, &fits, &rows_a, &rows_b}) bytes->release();
        for (Bytes& bytes : spare) bytes.release();
    }
};

struct Measured {
    Conjunct conjunct;
    double seconds = 0;
    double given = 0, kept = 0;

    // Seconds for each row that it drops.
    double rank() const noexcept { return given == 0 ? 0 : seconds / (given - kept + given / 1024); }
};

bool all_fit(const std::uint8_t* fits, const std::uint8_t* valid, std::size_t n) noexcept {
    std::uint8_t bad = 0;
    if (valid == nullptr) {
        for (std::size_t i = 0; i < n; ++i) bad = static_cast<std::uint8_t>(bad | (fits[i] ^ 1));
    } else {
        for (std::size_t i = 0; i < n; ++i) bad = static_cast<std::uint8_t>(bad | ((fits[i] ^ 1) & valid[i]));
    }
    return bad == 0;
}

Text view_text(const std::uint8_t* view, const void* const* buffers) noexcept {
    std::int32_t parts[4];
    std::memcpy(parts, view, 16);
    const auto size = static_cast<std::size_t>(parts[0]);
    if (size <= 12) return {view + 4, size};
    return {static_cast<const std::uint8_t*>(buffers[parts[2]]) + parts[3], size};
}

}  // namespace

struct Program::State {
    std::vector<ColumnSpec> columns;
    std::vector<Compiled> nodes;
    std::vector<Measured> early;      // conjuncts that may fail
    std::vector<Measured> conjuncts;  // all others, in order
    std::vector<OutputSpec> outputs;
    const Primitives* primitives;
    std::vector<std::shared_ptr<Imported>> batch;  // its columns
    std::size_t offset = 0;                        // of all of them
    std::uint64_t epoch = 0;
    int slices = 0;
    Bytes kept, found[2];
    std::vector<std::uint8_t> zeros = std::vector<std::uint8_t>(kSlice, 0);

    ~State() {
        for (Compiled& node : nodes) node.release();
        kept.release();
        found[0].release();
        found[1].release();
    }

    void prepare();
    void prepare_list(Compiled& node, Form form);

    Status eval(int number, const Domain& domain, Vec& out) noexcept;
    Status compute(Compiled& node, const Domain& domain) noexcept;
    Status load(Compiled& node, const Domain& domain) noexcept;
    Status load_text(Compiled& node, const ArrowArray& column, std::size_t first, const Domain& domain) noexcept;
    Status logic(Compiled& node, const Domain& domain) noexcept;
    Status distinct(Compiled& node, const Domain& domain) noexcept;
    Status two(Compiled& node, const Domain& domain) noexcept;
    Status one(Compiled& node, const Domain& domain) noexcept;
    Status choose(Compiled& node, const Domain& domain) noexcept;
    Status branch(int number, bool lazy, const std::uint8_t* mask, std::uint8_t wanted, Bytes& rows, Bytes& spread,
                  Bytes& spread_valid, const Domain& domain, Vec& out) noexcept;
    Status in_list(Compiled& node, const Domain& domain) noexcept;
    Status like(Compiled& node, const Domain& domain) noexcept;
    Status equal_views(Compiled& node, const Domain& domain) noexcept;
    Status merge_valid(Compiled& node, const Vec& a, const Vec& b, const Domain& domain, const std::uint8_t*& out) noexcept;
    Status nanvl_valid(Compiled& node, const Vec& a, const Vec& b, const Domain& domain, const std::uint8_t*& out) noexcept;

    Status slice(std::size_t base, std::size_t n, Domain& left) noexcept;
    Status test(Measured& measured, const Domain& domain, std::uint8_t* mask) noexcept;
    Result run(ArrowArray& given, std::size_t rows, Passed passed) noexcept;
    Status append_column(OutputColumn& made, const OutputSpec& spec, std::size_t rows, const Domain& domain) noexcept;
    Status append_values(OutputColumn& made, const OutputSpec& spec, std::size_t rows, const Domain& domain) noexcept;
};

// ---- preparation ------------------------------------------------------------------------------

void Program::State::prepare_list(Compiled& node, Form form) {
    node.list = std::make_unique<ListSet>();
    ListSet& list = *node.list;
    list.has_null = node.node.number == 1;
    const std::string& bytes = node.node.bytes;
    if (form != Form::kText) {
        list.values.assign(bytes.begin(), bytes.end());
        list.count = bytes.size() / width_of(form);
        return;
    }
    for (std::size_t at = 0; at < bytes.size();) {
        std::int32_t size = 0;
        std::memcpy(&size, bytes.data() + at, 4);
        list.texts.push_back(bytes.substr(at + 4, static_cast<std::size_t>(size)));
        at += 4 + static_cast<std::size_t>(size);
    }
    for (const std::string& text : list.texts) list.hashed.insert(text);
    list.count = list.texts.size();
}

void Program::State::prepare() {
    for (Compiled& made : nodes) {
        const Node& node = made.node;
        made.width = width_of(node.form);
        const auto argument = [&](std::size_t i) -> const Compiled& {
            return nodes[static_cast<std::size_t>(node.arguments[i])];
        };
        switch (node.op) {
            case Op::kConstant:
                made.constant = node.bytes;
                made.result.constant = true;
                if (node.form == Form::kText) {
                    made.text = {reinterpret_cast<const std::uint8_t*>(made.constant.data()), made.constant.size()};
                    made.result.values = reinterpret_cast<const std::uint8_t*>(&made.text);
                    if (node.number == 1) made.result.valid = zeros.data();
                    break;
                }
                if (made.constant.empty()) {
                    made.constant.assign(16, '\0');
                    made.result.valid = zeros.data();
                }
                // In memory of the allocator, which is aligned for any type.
                if (!made.values.reserve(16)) throw std::bad_alloc();
                std::memcpy(made.values.data, made.constant.data(), made.width);
                made.result.values = made.values.data;
                break;
            case Op::kIn: prepare_list(made, argument(0).node.form); break;
            case Op::kLike: made.like = std::make_unique<LikePattern>(node.bytes); break;
            case Op::kEqual: case Op::kNotEqual: {
                const Compiled& a = argument(0);
                const Compiled& b = argument(1);
                if (a.node.op == Op::kColumn && b.node.op == Op::kConstant && b.node.form == Form::kText &&
                    b.node.number == 0 && columns[static_cast<std::size_t>(a.node.number)].layout == Layout::kViews) {
                    made.on_views = true;
                    const auto size = static_cast<std::uint32_t>(b.text.size);
                    std::memcpy(made.view, &size, 4);
                    std::memcpy(made.view + 4, b.text.data, std::min<std::size_t>(b.text.size, size <= 12 ? 12 : 4));
                }
                [[fallthrough]];
            }
            case Op::kLess: case Op::kLessEqual: case Op::kDistinct: case Op::kNotDistinct:
            case Op::kAdd: case Op::kSubtract: case Op::kMultiply: case Op::kAddChecked: case Op::kSubtractChecked:
            case Op::kMultiplyChecked: case Op::kDivide: case Op::kModulo: case Op::kNanvl: {
                const Compiled& a = argument(0);
                const Compiled& b = argument(1);
                const Op op = node.op == Op::kDistinct || node.op == Op::kNotDistinct ? Op::kEqual : node.op;
                made.binary = primitives->binary(op, a.node.form, a.node.op == Op::kConstant, b.node.op == Op::kConstant);
                const bool real = node.form == Form::kF32 || node.form == Form::kF64;
                made.fallible = op == Op::kAddChecked || op == Op::kSubtractChecked || op == Op::kMultiplyChecked ||
                                ((op == Op::kDivide || op == Op::kModulo) && !real);
                if (made.binary == nullptr) throw std::invalid_argument("no such operation of two values");
                break;
            }
            case Op::kNegate: case Op::kNegateChecked: case Op::kCast: case Op::kScaleUp: case Op::kScaleDown:
            case Op::kTruncate: case Op::kFromReal: case Op::kToReal:
                made.unary = primitives->unary(node.op, argument(0).node.form, node.form, made.fallible);
                if (made.unary == nullptr) throw std::invalid_argument("no such operation of one value");
                break;
            default: break;
        }
    }
}

// ---- nodes ------------------------------------------------------------------------------------

Status Program::State::eval(int number, const Domain& domain, Vec& out) noexcept {
    Compiled& node = nodes[static_cast<std::size_t>(number)];
    if (node.node.op != Op::kConstant && node.epoch != domain.epoch) {
        const Status status = compute(node, domain);
        if (status != Status::kDone) return status;
        node.epoch = domain.epoch;
    }
    out = node.result;
    return Status::kDone;
}

Status Program::State::compute(Compiled& node, const Domain& domain) noexcept {
    if (!node.values.reserve(domain.n * node.width + 16)) return Status::kNoMemory;
    node.result = {node.values.data, nullptr, false};
    switch (node.node.op) {
        case Op::kColumn: return load(node, domain);
        case Op::kAnd: case Op::kOr: case Op::kNot: case Op::kIsNull: case Op::kIsNotNull: case Op::kIsTrue: case Op::kIsFalse:
            return logic(node, domain);
        case Op::kDistinct: case Op::kNotDistinct: return distinct(node, domain);
        case Op::kIf: return choose(node, domain);
        case Op::kIn: return in_list(node, domain);
        case Op::kLike: return like(node, domain);
        default:
            if (node.on_views) return equal_views(node, domain);
            return node.binary != nullptr ? two(node, domain) : one(node, domain);
    }
}

Status Program::State::load(Compiled& node, const Domain& domain) noexcept {
    const auto number = static_cast<std::size_t>(node.node.number);
    const ArrowArray& column = batch[number]->array();
    const std::size_t first = static_cast<std::size_t>(column.offset) + offset + domain.base;
    if (column.null_count != 0 && column.buffers[0] != nullptr) {
        if (!node.valid.reserve(domain.n + 8)) return Status::kNoMemory;
        const auto* bits = static_cast<const std::uint8_t*>(column.buffers[0]);
        if (domain.rows == nullptr) {
            primitives->unpack(bits, first, domain.n, node.valid.data);
        } else {
            primitives->unpack_rows(bits, first, domain.rows, domain.n, node.valid.data);
        }
        node.result.valid = node.valid.data;
    }
    const ColumnSpec& spec = columns[number];
    if (spec.layout == Layout::kFixed && spec.width == 0) {  // only what is null matters
        std::memset(node.values.data, 0, domain.n);
        return Status::kDone;
    }
    if (node.node.form == Form::kText) return load_text(node, column, first, domain);
    const auto* values = static_cast<const std::uint8_t*>(column.buffers[1]);
    if (spec.layout == Layout::kBits) {
        if (domain.rows == nullptr) {
            primitives->unpack(values, first, domain.n, node.values.data);
        } else {
            primitives->unpack_rows(values, first, domain.rows, domain.n, node.values.data);
        }
        return Status::kDone;
    }
    values += first * spec.width;
    if (domain.rows != nullptr) {
        primitives->gather(spec.width)(values, domain.rows, node.values.data, domain.n);
    } else if (reinterpret_cast<std::uintptr_t>(values) % spec.width == 0) {
        node.result.values = values;
    } else {
        std::memcpy(node.values.data, values, domain.n * spec.width);
    }
    return Status::kDone;
}

Status Program::State::load_text(Compiled& node, const ArrowArray& column, std::size_t first,
                                 const Domain& domain) noexcept {
    auto* out = reinterpret_cast<Text*>(node.values.data);
    const std::uint8_t* valid = node.result.valid;
    const Layout layout = columns[static_cast<std::size_t>(node.node.number)].layout;
    const auto* places = static_cast<const std::uint8_t*>(column.buffers[1]);
    const auto each = [&](auto&& text_at) {
        for (std::size_t i = 0; i < domain.n; ++i) {
            const std::size_t row = first + (domain.rows == nullptr ? i : domain.rows[i]);
            // What lies under a null may be anything.
            out[i] = valid == nullptr || valid[i] ? text_at(row) : Text{nullptr, 0};
        }
    };
    if (layout == Layout::kViews) {
        each([&](std::size_t row) { return view_text(places + row * 16, column.buffers + 2); });
        return Status::kDone;
    }
    const auto* data = static_cast<const std::uint8_t*>(column.buffers[2]);
    const auto by_offsets = [&](auto zero) {
        using Offset = decltype(zero);
        const auto* offsets = reinterpret_cast<const Offset*>(places);
        each([&](std::size_t row) {
            return Text{data + offsets[row], static_cast<std::size_t>(offsets[row + 1] - offsets[row])};
        });
    };
    if (layout == Layout::kOffsets32) {
        by_offsets(std::int32_t{});
    } else {
        by_offsets(std::int64_t{});
    }
    return Status::kDone;
}

Status Program::State::merge_valid(Compiled& node, const Vec& a, const Vec& b, const Domain& domain,
                                   const std::uint8_t*& out) noexcept {
    out = a.valid != nullptr ? a.valid : b.valid;
    if (a.valid == nullptr || b.valid == nullptr || a.valid == b.valid) return Status::kDone;
    if (!node.valid.reserve(domain.n)) return Status::kNoMemory;
    for (std::size_t i = 0; i < domain.n; ++i) node.valid.data[i] = a.valid[i] & b.valid[i];
    out = node.valid.data;
    return Status::kDone;
}

Status Program::State::nanvl_valid(Compiled& node, const Vec& a, const Vec& b, const Domain& domain,
                                   const std::uint8_t*& out) noexcept {
    if (!node.valid.reserve(domain.n)) return Status::kNoMemory;
    std::uint8_t* valid = node.valid.data;
    const auto each = [&](auto zero) {
        const auto* values = reinterpret_cast<const decltype(zero)*>(a.values);
        for (std::size_t i = 0; i < domain.n; ++i) {
            const auto value = values[a.constant ? 0 : i];
            valid[i] = (a.valid == nullptr || a.valid[i]) && (value == value || b.valid[i]);
        }
    };
    node.node.form == Form::kF32 ? each(float{}) : each(double{});
    out = valid;
    return Status::kDone;
}

Status Program::State::logic(Compiled& node, const Domain& domain) noexcept {
    Vec a, b;
    Status status = eval(node.node.arguments[0], domain, a);
    if (status != Status::kDone) return status;
    std::uint8_t* r = node.values.data;
    const std::size_t n = domain.n;
    const std::uint8_t* x = a.values;
    switch (node.node.op) {
        case Op::kNot:
            for (std::size_t i = 0; i < n; ++i) r[i] = x[i] ^ 1;
            node.result.valid = a.valid;
            return Status::kDone;
        case Op::kIsNull:
            if (a.valid == nullptr) std::memset(r, 0, n);
            else for (std::size_t i = 0; i < n; ++i) r[i] = a.valid[i] ^ 1;
            return Status::kDone;
        case Op::kIsNotNull:
            if (a.valid == nullptr) std::memset(r, 1, n);
            else std::memcpy(r, a.valid, n);
            return Status::kDone;
        case Op::kIsTrue:
            if (a.valid == nullptr) std::memcpy(r, x, n);
            else for (std::size_t i = 0; i < n; ++i) r[i] = x[i] & a.valid[i];
            return Status::kDone;
        case Op::kIsFalse:
            if (a.valid == nullptr) for (std::size_t i = 0; i < n; ++i) r[i] = x[i] ^ 1;
            else for (std::size_t i = 0; i < n; ++i) r[i] = (x[i] ^ 1) & a.valid[i];
            return Status::kDone;
        default: break;
    }
    status = eval(node.node.arguments[1], domain, b);
    if (status != Status::kDone) return status;
    // Neither argument is a constant.
    const std::uint8_t* y = b.values;
    const bool both = node.node.op == Op::kAnd;
    if (a.valid != nullptr || b.valid != nullptr) {
        if (!node.valid.reserve(n)) return Status::kNoMemory;
        std::uint8_t* v = node.valid.data;
        // False AND null is false, true OR null is true.
        const std::uint8_t flip = both ? 1 : 0;
        for (std::size_t i = 0; i < n; ++i) {
            const std::uint8_t va = a.valid == nullptr ? 1 : a.valid[i], vb = b.valid == nullptr ? 1 : b.valid[i];
            v[i] = (va & vb) | (va & (x[i] ^ flip)) | (vb & (y[i] ^ flip));
        }
        // A value under a null counts as neither.
        for (std::size_t i = 0; i < n; ++i) {
            const std::uint8_t va = a.valid == nullptr ? 1 : a.valid[i], vb = b.valid == nullptr ? 1 : b.valid[i];
            r[i] = both ? (x[i] | (va ^ 1)) & (y[i] | (vb ^ 1)) : (x[i] & va) | (y[i] & vb);
        }
        node.result.valid = v;
        return Status::kDone;
    }
    if (both) {
        for (std::size_t i = 0; i < n; ++i) r[i] = x[i] & y[i];
    } else {
        for (std::size_t i = 0; i < n; ++i) r[i] = x[i] | y[i];
    }
    return Status::kDone;
}

Status Program::State::two(Compiled& node, const Domain& domain) noexcept {
    Vec a, b;
    Status status = eval(node.node.arguments[0], domain, a);
    if (status == Status::kDone) status = eval(node.node.arguments[1], domain, b);
    const std::uint8_t* valid = nullptr;
    if (status == Status::kDone) {
        // A second value that is null counts only where the first is NaN.
        const bool chosen = node.node.op == Op::kNanvl && b.valid != nullptr;
        status = chosen ? nanvl_valid(node, a, b, domain, valid) : merge_valid(node, a, b, domain, valid);
    }
    if (status != Status::kDone) return status;
    node.result.valid = valid;
    if (node.fallible && !node.fits.reserve(domain.n)) return Status::kNoMemory;
    node.binary(a.values, b.values, node.values.data, node.fits.data, domain.n);
    return node.fallible && !all_fit(node.fits.data, valid, domain.n) ? Status::kNeedsFallback : Status::kDone;
}

Status Program::State::distinct(Compiled& node, const Domain& domain) noexcept {
    Vec a, b;
    Status status = eval(node.node.arguments[0], domain, a);
    if (status == Status::kDone) status = eval(node.node.arguments[1], domain, b);
    if (status != Status::kDone) return status;
    std::uint8_t* r = node.values.data;
    node.binary(a.values, b.values, r, nullptr, domain.n);
    const std::uint8_t flip = node.node.op == Op::kDistinct ? 1 : 0;
    for (std::size_t i = 0; i < domain.n; ++i) {
        const std::uint8_t va = a.valid == nullptr ? 1 : a.valid[i], vb = b.valid == nullptr ? 1 : b.valid[i];
        const std::uint8_t same = (va & vb & r[i]) | ((va | vb) ^ 1);
        r[i] = same ^ flip;
    }
    return Status::kDone;
}

Status Program::State::one(Compiled& node, const Domain& domain) noexcept {
    Vec a;
    const Status status = eval(node.node.arguments[0], domain, a);
    if (status != Status::kDone) return status;
    const std::size_t n = domain.n;
    node.result.valid = a.valid;
    if (node.fallible && !node.fits.reserve(n)) return Status::kNoMemory;
    node.unary(a.values, node.values.data, node.fits.data, n, node.node.number, node.node.limit);
    if (!node.fallible) return Status::kDone;
    if (!node.node.lenient) {
        return all_fit(node.fits.data, a.valid, n) ? Status::kDone : Status::kNeedsFallback;
    }
    if (!node.valid.reserve(n)) return Status::kNoMemory;
    for (std::size_t i = 0; i < n; ++i) {
        node.valid.data[i] = node.fits.data[i] & (a.valid == nullptr ? 1 : a.valid[i]);
    }
    node.result.valid = node.valid.data;
    return Status::kDone;
}

// Computes a branch for the rows where the mask is `wanted`, if it is lazy, and spreads its values over all rows.
Status Program::State::branch(int number, bool lazy, const std::uint8_t* mask, std::uint8_t wanted, Bytes& rows,
                              Bytes& spread, Bytes& spread_valid, const Domain& domain, Vec& out) noexcept {
    if (!lazy) return eval(number, domain, out);
    const std::size_t n = domain.n, width = nodes[static_cast<std::size_t>(number)].width;
    if (!rows.reserve(2 * n * 4 + 8) || !spread.reserve(n * width + 16) || !spread_valid.reserve(n + 8)) {
        return Status::kNoMemory;
    }
    auto* places = reinterpret_cast<std::uint32_t*>(rows.data);
    std::uint32_t* chosen = places + n;
    std::size_t count = 0;
    for (std::size_t i = 0; i < n; ++i) {
        places[count] = static_cast<std::uint32_t>(i);
        count += mask[i] == wanted;
    }
    std::memset(spread.data, 0, n * width);
    std::memset(spread_valid.data, 1, n);
    out = {spread.data, nullptr, false};
    if (count == 0) return Status::kDone;
    for (std::size_t i = 0; i < count; ++i) chosen[i] = domain.rows == nullptr ? places[i] : domain.rows[places[i]];
    const Domain below{domain.base, chosen, count, ++epoch};
    Vec made;
    const Status status = eval(number, below, made);
    if (status != Status::kDone) return status;
    for (std::size_t i = 0; i < count; ++i) {
        std::memcpy(spread.data + places[i] * width, made.values + (made.constant ? 0 : i * width), width);
    }
    if (made.valid != nullptr) {
        for (std::size_t i = 0; i < count; ++i) spread_valid.data[places[i]] = made.valid[i];
        out.valid = spread_valid.data;
    }
    return Status::kDone;
}

Status Program::State::choose(Compiled& node, const Domain& domain) noexcept {
    Vec test, a, b;
    const std::vector<int>& arguments = node.node.arguments;
    Status status = eval(arguments[0], domain, test);
    if (status != Status::kDone) return status;
    const std::size_t n = domain.n;
    if (!node.fits.reserve(n + 8)) return Status::kNoMemory;
    std::uint8_t* mask = node.fits.data;
    if (test.valid == nullptr) {
        std::memcpy(mask, test.values, n);
    } else {
        for (std::size_t i = 0; i < n; ++i) mask[i] = test.values[i] & test.valid[i];
    }
    Bytes* spare = node.spare;
    status = branch(arguments[1], node.node.number & 1, mask, 1, node.rows_a, spare[0], spare[1], domain, a);
    if (status == Status::kDone) {
        status = branch(arguments[2], node.node.number & 2, mask, 0, node.rows_b, spare[2], spare[3], domain, b);
    }
    if (status != Status::kDone) return status;
    primitives->choose(mask, a.values, a.constant, b.values, b.constant, node.width, node.values.data, n);
    if (a.valid != nullptr || b.valid != nullptr) {
        if (!node.valid.reserve(n)) return Status::kNoMemory;
        for (std::size_t i = 0; i < n; ++i) {
            const std::uint8_t va = a.valid == nullptr ? 1 : a.valid[i], vb = b.valid == nullptr ? 1 : b.valid[i];
            node.valid.data[i] = mask[i] ? va : vb;
        }
        node.result.valid = node.valid.data;
    }
    return Status::kDone;
}

Status Program::State::in_list(Compiled& node, const Domain& domain) noexcept {
    Vec a;
    const Status status = eval(node.node.arguments[0], domain, a);
    if (status != Status::kDone) return status;
    const Form form = nodes[static_cast<std::size_t>(node.node.arguments[0])].node.form;
    const ListSet& list = *node.list;
    const std::size_t n = domain.n;
    std::uint8_t* r = node.values.data;
    if (form == Form::kText) {
        const Text* text = a.as<Text>();
        for (std::size_t i = 0; i < n; ++i) {
            r[i] = list.hashed.contains({reinterpret_cast<const char*>(text[i].data), text[i].size});
        }
    } else {
        const std::size_t width = width_of(form);
        const Binary equal = primitives->binary(Op::kEqual, form, false, true);
        std::memset(r, 0, n);
        if (!node.fits.reserve(n)) return Status::kNoMemory;
        for (std::size_t k = 0; k < list.count; ++k) {
            equal(a.values, list.values.data() + k * width, node.fits.data, nullptr, n);
            for (std::size_t i = 0; i < n; ++i) r[i] |= node.fits.data[i];
        }
    }
    node.result.valid = a.valid;
    if (!list.has_null) return Status::kDone;
    // What is equal to no value may be equal to the null.
    if (!node.valid.reserve(n)) return Status::kNoMemory;
    for (std::size_t i = 0; i < n; ++i) node.valid.data[i] = r[i] & (a.valid == nullptr ? 1 : a.valid[i]);
    node.result.valid = node.valid.data;
    return Status::kDone;
}

Status Program::State::like(Compiled& node, const Domain& domain) noexcept {
    Vec a;
    const Status status = eval(node.node.arguments[0], domain, a);
    if (status != Status::kDone) return status;
    const Text* text = a.as<Text>();
    const LikePattern& pattern = *node.like;
    constexpr std::size_t kAhead = 16, kLine = 64;
    for (std::size_t i = 0; i < domain.n; ++i) {
        if (i + kAhead < domain.n) {  // texts may lie far from each other, where the processor expects none
            const auto begin = reinterpret_cast<std::uintptr_t>(text[i + kAhead].data);
            __builtin_prefetch(reinterpret_cast<const void*>(begin));
            __builtin_prefetch(reinterpret_cast<const void*>(begin + kLine));
        }
        node.values.data[i] = pattern.matches(text[i]);
    }
    node.result.valid = a.valid;
    return Status::kDone;
}

Status Program::State::equal_views(Compiled& node, const Domain& domain) noexcept {
    const Compiled& column = nodes[static_cast<std::size_t>(node.node.arguments[0])];
    const Compiled& value = nodes[static_cast<std::size_t>(node.node.arguments[1])];
    const ArrowArray& array = batch[static_cast<std::size_t>(column.node.number)]->array();
    const std::size_t first = static_cast<std::size_t>(array.offset) + offset + domain.base;
    if (array.null_count != 0 && array.buffers[0] != nullptr) {
        if (!node.valid.reserve(domain.n + 8)) return Status::kNoMemory;
        const auto* bits = static_cast<const std::uint8_t*>(array.buffers[0]);
        if (domain.rows == nullptr) {
            primitives->unpack(bits, first, domain.n, node.valid.data);
        } else {
            primitives->unpack_rows(bits, first, domain.rows, domain.n, node.valid.data);
        }
        node.result.valid = node.valid.data;
    }
    primitives->views_equal(static_cast<const std::uint8_t*>(array.buffers[1]) + first * 16, domain.rows, domain.n,
                            node.view, value.text, array.buffers + 2, node.values.data);
    if (node.node.op == Op::kNotEqual) {
        for (std::size_t i = 0; i < domain.n; ++i) node.values.data[i] ^= 1;
    }
    return Status::kDone;
}

// ---- slices -----------------------------------------------------------------------------------

Status Program::State::test(Measured& measured, const Domain& domain, std::uint8_t* mask) noexcept {
    const auto begin = std::chrono::steady_clock::now();
    Vec made;
    const Status status = eval(measured.conjunct.node, domain, made);
    if (status != Status::kDone) return status;
    // Values under nulls may be anything.
    if (made.valid == nullptr) {
        for (std::size_t i = 0; i < domain.n; ++i) mask[i] &= made.values[i];
    } else {
        for (std::size_t i = 0; i < domain.n; ++i) mask[i] &= made.values[i] & made.valid[i];
    }
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    // What was long ago counts less.
    measured.seconds = measured.seconds * 0.9 + taken.count();
    measured.given = measured.given * 0.9 + static_cast<double>(domain.n);
    return Status::kDone;
}

// Leaves the rows of a slice that all conjuncts are true for. Conjuncts that may fail see all rows; each other one sees
// those that are left, once these are clearly fewer.
Status Program::State::slice(std::size_t base, std::size_t n, Domain& left) noexcept {
    left = {base, nullptr, n, ++epoch};
    if (early.empty() && conjuncts.empty()) return Status::kDone;
    if (!kept.reserve(n + 64)) return Status::kNoMemory;
    std::uint8_t* mask = kept.data;
    std::memset(mask, 1, n);
    for (Measured& one : early) {
        const Status status = test(one, left, mask);
        if (status != Status::kDone) return status;
    }
    std::size_t count = early.empty() ? n : primitives->count(mask, n);
    int side = 0;
    const auto narrow = [&]() -> bool {
        Bytes& into = found[side];
        side ^= 1;
        if (!into.reserve(left.n * 4 + 256)) return false;
        auto* rows = reinterpret_cast<std::uint32_t*>(into.data);
        count = primitives->positions(mask, left.n, rows);
        if (left.rows != nullptr) {
            for (std::size_t i = 0; i < count; ++i) rows[i] = left.rows[rows[i]];
        }
        left = {base, rows, count, ++epoch};
        std::memset(mask, 1, count);
        return true;
    };
    for (Measured& one : conjuncts) {
        if (count * 4 < left.n * 3 && !narrow()) return Status::kNoMemory;
        if (count == 0) break;
        const std::size_t before = count;
        const Status status = test(one, left, mask);
        if (status != Status::kDone) return status;
        count = primitives->count(mask, left.n);
        one.kept = one.kept * 0.9 + static_cast<double>(left.n) * static_cast<double>(count) / static_cast<double>(before);
    }
    if (count < left.n && !narrow()) return Status::kNoMemory;
    // Often at first, since nothing is known, then now and then.
    if (++slices <= 4 || slices % kReorder == 0) {
        std::stable_sort(conjuncts.begin(), conjuncts.end(),
                         [](const Measured& a, const Measured& b) { return a.rank() < b.rank(); });
    }
    return Status::kDone;
}

// ---- output -----------------------------------------------------------------------------------

Status Program::State::append_column(OutputColumn& made, const OutputSpec& spec, std::size_t rows,
                                     const Domain& domain) noexcept {
    const std::shared_ptr<Imported>& source = batch[static_cast<std::size_t>(spec.column)];
    const ArrowArray& column = source->array();
    const ColumnSpec& type = columns[static_cast<std::size_t>(spec.column)];
    const std::size_t first = static_cast<std::size_t>(column.offset) + offset + domain.base;
    const auto bits_of = [&](const void* bits, std::uint8_t* out) {
        const auto* from = static_cast<const std::uint8_t*>(bits);
        if (domain.rows == nullptr) {
            primitives->unpack(from, first, domain.n, out);
        } else {
            primitives->unpack_rows(from, first, domain.rows, domain.n, out);
        }
    };
    if (column.null_count != 0 && column.buffers[0] != nullptr) {
        std::uint8_t* valid = made.nulls(rows, domain.n);
        if (valid == nullptr) return Status::kNoMemory;
        bits_of(column.buffers[0], valid);
    }
    std::uint8_t* out = made.values.data + rows * made.width;
    if (type.layout == Layout::kBits) {
        bits_of(column.buffers[1], out);
        return Status::kDone;
    }
    if (type.layout == Layout::kViews) made.source = source;
    const std::uint8_t* values = static_cast<const std::uint8_t*>(column.buffers[1]) + first * type.width;
    if (domain.rows == nullptr) {
        std::memcpy(out, values, domain.n * type.width);
    } else {
        primitives->gather(type.width)(values, domain.rows, out, domain.n);
    }
    return Status::kDone;
}

Status Program::State::append_values(OutputColumn& made, const OutputSpec& spec, std::size_t rows,
                                     const Domain& domain) noexcept {
    Vec value;
    const Status status = eval(spec.node, domain, value);
    if (status != Status::kDone) return status;
    const std::size_t n = domain.n;
    if (value.valid != nullptr) {
        std::uint8_t* valid = made.nulls(rows, n);
        if (valid == nullptr) return Status::kNoMemory;
        std::memcpy(valid, value.valid, n);
    } else if (made.any_null) {
        std::memset(made.valid.data + rows, 1, n);
    }
    if (made.layout == Layout::kViews) {
        return made.append_text(rows, value.as<Text>(), value.constant, value.valid, n) ? Status::kDone
                                                                                      : Status::kNeedsFallback;
    }
    std::uint8_t* out = made.values.data + rows * made.width;
    if (!value.constant) {
        std::memcpy(out, value.values, n * made.width);
        return Status::kDone;
    }
    for (std::size_t i = 0; i < n; ++i) std::memcpy(out + i * made.width, value.values, made.width);
    return Status::kDone;
}

Result Program::State::run(ArrowArray& given, std::size_t total, Passed passed) noexcept {
    Result result;
    try {
        const Imported whole_batch(given);
        offset = static_cast<std::size_t>(whole_batch.array().offset);
        for (std::int64_t i = 0; i < whole_batch.array().n_children; ++i) {
            batch.push_back(std::make_shared<Imported>(*whole_batch.array().children[i]));
        }
        std::vector<OutputColumn> made(outputs.size());
        std::vector<OutputColumn> computed;
        for (std::size_t i = 0; i < outputs.size(); ++i) {
            OutputColumn& column = made[i];
            if (outputs[i].column >= 0) {
                const ColumnSpec& spec = columns[static_cast<std::size_t>(outputs[i].column)];
                column.layout = spec.layout;
                column.width = spec.layout == Layout::kBits ? 1 : spec.width;
            } else {
                const Form form = nodes[static_cast<std::size_t>(outputs[i].node)].node.form;
                column.layout = form == Form::kBool ? Layout::kBits : form == Form::kText ? Layout::kViews : Layout::kFixed;
                column.width = width_of(form);
            }
        }
        // Until the first row is dropped, columns that pass need no copy.
        bool whole = passed == Passed::kLeft;
        const auto copy_before = [&](std::size_t rows) -> Status {
            whole = false;
            const Domain before{0, nullptr, rows, 0};
            for (std::size_t i = 0; i < outputs.size() && rows; ++i) {
                if (outputs[i].column < 0) continue;
                if (!made[i].reserve(0, rows)) return Status::kNoMemory;
                const Status status = append_column(made[i], outputs[i], 0, before);
                if (status != Status::kDone) return status;
            }
            return Status::kDone;
        };
        for (std::size_t base = 0; base < total; base += kSlice) {
            Domain left{};
            result.status = slice(base, std::min(kSlice, total - base), left);
            if (result.status == Status::kDone && whole && left.rows != nullptr) result.status = copy_before(base);
            if (result.status == Status::kDone && left.n) {
                for (std::size_t i = 0; i < outputs.size() && result.status == Status::kDone; ++i) {
                    if (outputs[i].column >= 0 && whole) continue;
                    if (!made[i].reserve(result.rows, left.n)) {
                        result.status = Status::kNoMemory;
                    } else {
                        result.status = outputs[i].column >= 0 ? append_column(made[i], outputs[i], result.rows, left)
                                                               : append_values(made[i], outputs[i], result.rows, left);
                    }
                }
            }
            if (result.status != Status::kDone) break;
            result.rows += left.n;
        }
        if (result.status == Status::kDone) {
            result.whole = whole;
            for (std::size_t i = 0; i < outputs.size(); ++i) {
                if (!whole || outputs[i].column < 0) computed.push_back(std::move(made[i]));
            }
            result.array = to_arrow(computed, result.rows, *primitives);
            if (result.array == nullptr) result.status = Status::kNoMemory;
        }
    } catch (const std::bad_alloc&) {
        result.status = Status::kNoMemory;
    }
    batch.clear();
    ++epoch;
    return result;
}

Program::Program(std::vector<ColumnSpec> columns, std::vector<Node> nodes, std::vector<Conjunct> conjuncts,
                 std::vector<OutputSpec> outputs, const char* instruction_set)
    : state_(std::make_unique<State>()) {
    state_->primitives = find_primitives(instruction_set);
    state_->columns = std::move(columns);
    state_->outputs = std::move(outputs);
    for (Node& node : nodes) {
        state_->nodes.emplace_back();
        state_->nodes.back().node = std::move(node);
    }
    for (const Conjunct& one : conjuncts) (one.fallible ? state_->early : state_->conjuncts).push_back({one});
    state_->prepare();
}

Program::~Program() = default;

Result Program::run(ArrowArray& batch, std::size_t rows, Passed passed) noexcept {
    return state_->run(batch, rows, passed);
}

}  // namespace mmflow::program
