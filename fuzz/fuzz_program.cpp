// Options: columns with nulls or without, nodes over them and over earlier nodes, conjuncts, outputs; the rest are values.
//
// All instruction sets must need the fallback, or give the same rows, byte for byte.
#include <cmath>
#include <limits>
#include <memory>
#include <string>

#include "fuzzing.h"
#include "program/program.h"

using namespace mmflow;
using namespace mmflow::program;

namespace {

constexpr std::size_t kRows = 500;

// Struct array of int64, float64, int32, bool and text columns, with buffers of just their size.
struct Batch {
    std::vector<std::unique_ptr<std::uint8_t[]>> memory;
    std::vector<std::vector<const void*>> buffers;
    std::vector<ArrowArray> columns;
    std::vector<ArrowArray*> pointers;
    std::int64_t sizes[1] = {0};
    std::size_t rows;

    const std::uint8_t* filled(std::size_t size, const std::uint8_t* data, std::size_t given) {
        memory.push_back(std::make_unique<std::uint8_t[]>(size));
        for (std::size_t i = 0; i < size; ++i) memory.back()[i] = given ? data[i % given] : 0;
        return memory.back().get();
    }

    Batch(std::size_t count, int nulls, const std::uint8_t* data, std::size_t given) : rows(count) {
        const std::size_t bits = (count + 7) / 8, widths[] = {8, 8, 4, 0, 16};
        for (std::size_t c = 0; c < 5; ++c) {
            const std::size_t shift = given ? c * 7 % given : 0;
            const auto* valid = nulls >> c & 1 ? filled(bits, data + shift, given - shift) : nullptr;
            const auto* values = filled(widths[c] ? count * widths[c] : bits, data + shift, given - shift);
            buffers.push_back({valid, values});
            if (c == 4) views(const_cast<std::uint8_t*>(values), data, given);
        }
        for (std::size_t c = 0; c < 5; ++c) {
            columns.push_back({static_cast<std::int64_t>(count), nulls >> c & 1 ? -1 : 0, 0,
                               static_cast<std::int64_t>(buffers[c].size()), 0, buffers[c].data(), nullptr, nullptr, nullptr,
                               nullptr});
        }
        for (ArrowArray& column : columns) pointers.push_back(&column);
    }

    // Text of 0 to 20 bytes of 'a' to 'd'.
    void views(std::uint8_t* out, const std::uint8_t* data, std::size_t given) {
        memory.push_back(std::make_unique<std::uint8_t[]>(rows * 20 + 1));
        std::uint8_t* text = memory.back().get();
        for (std::size_t i = 0; i < rows; ++i) {
            const std::uint32_t size = given ? data[i % given] % 21 : 0;
            std::uint8_t* own = text + i * 20;
            for (std::uint32_t k = 0; k < size; ++k) own[k] = static_cast<std::uint8_t>('a' + data[(i + k) % given] % 4);
            std::memset(out + i * 16, 0, 16);
            std::memcpy(out + i * 16, &size, 4);
            std::memcpy(out + i * 16 + 4, own, size <= 12 ? size : 4);
            const auto place = static_cast<std::uint32_t>(i * 20);
            if (size > 12) std::memcpy(out + i * 16 + 12, &place, 4);
        }
        sizes[0] = static_cast<std::int64_t>(rows * 20 + 1);
        buffers.back().push_back(text);
        buffers.back().push_back(sizes);
    }

    ArrowArray array() {
        return {static_cast<std::int64_t>(rows), 0, 0, 1, 5, nullptr, pointers.data(), nullptr, nullptr, nullptr};
    }
};

bool number(Form form) { return form == Form::kI64 || form == Form::kF64 || form == Form::kI32 || form == Form::kI128; }

// Node `choice` over earlier ones, if it is one that a compiler could make.
bool make_node(fuzzing::Input& input, std::vector<Node>& nodes) {
    const auto pick = [&] { return static_cast<int>(input.byte() % nodes.size()); };
    const int a = pick(), b = pick(), c = pick();
    const Form of = nodes[static_cast<std::size_t>(a)].form, other = nodes[static_cast<std::size_t>(b)].form;
    const bool constants = nodes[static_cast<std::size_t>(a)].op == Op::kConstant;
    const Op op = static_cast<Op>(2 + input.byte() % 33);
    const bool lenient = input.byte() % 2;
    if (constants) return false;
    switch (op) {
        case Op::kEqual: case Op::kNotEqual: case Op::kLess: case Op::kLessEqual: case Op::kDistinct: case Op::kNotDistinct:
            if (of != other) return false;
            nodes.push_back({op, Form::kBool, {a, b}});
            return true;
        case Op::kAnd: case Op::kOr:
            if (of != Form::kBool || other != Form::kBool) return false;
            nodes.push_back({op, Form::kBool, {a, b}});
            return true;
        case Op::kNot: case Op::kIsTrue: case Op::kIsFalse:
            if (of != Form::kBool) return false;
            nodes.push_back({op, Form::kBool, {a}});
            return true;
        case Op::kIsNull: case Op::kIsNotNull:
            nodes.push_back({op, Form::kBool, {a}});
            return true;
        case Op::kAdd: case Op::kSubtract: case Op::kMultiply: case Op::kDivide: case Op::kModulo:
            if (!number(of) || of != other) return false;
            nodes.push_back({op, of, {a, b}});
            return true;
        case Op::kAddChecked: case Op::kSubtractChecked: case Op::kMultiplyChecked:
            if (!number(of) || of != other || of == Form::kF64) return false;
            nodes.push_back({op, of, {a, b}});
            return true;
        case Op::kNegate:
            if (!number(of)) return false;
            nodes.push_back({op, of, {a}});
            return true;
        case Op::kNanvl:
            if (of != Form::kF64 || other != Form::kF64) return false;
            nodes.push_back({op, of, {a, b}});
            return true;
        case Op::kIf: {
            const Form third = nodes[static_cast<std::size_t>(c)].form;
            if (of != Form::kBool || other != third) return false;
            nodes.push_back({op, other, {a, b, c}});
            return true;
        }
        case Op::kIn:
            if (of != Form::kI64) return false;
            nodes.push_back({op, Form::kBool, {a}, lenient, 0, false, std::string(16, '\1')});
            return true;
        case Op::kLike:
            if (of != Form::kText) return false;
            nodes.push_back({op, Form::kBool, {a}, 0, 0, false, std::string(lenient ? "%c\1\0\0\0ab_%" : "c\2\0\0\0ab%", lenient ? 9 : 8)});
            return true;
        case Op::kCast: {
            const Form to = static_cast<Form>(1 + input.byte() % 11);
            const bool wide = to == Form::kI128 || of == Form::kI128;
            const bool real = to == Form::kF32 || to == Form::kF64 || of == Form::kF64 || of == Form::kF32;
            if (of == Form::kText || (wide && real)) return false;
            nodes.push_back({op, to, {a}, 0, 0, lenient});
            return true;
        }
        case Op::kScaleUp: case Op::kScaleDown: case Op::kTruncate:
            if (of != Form::kI128) return false;
            nodes.push_back({op, of, {a}, input.byte() % 20, 38, lenient});
            return true;
        case Op::kFromReal:
            if (of != Form::kF64) return false;
            nodes.push_back({op, Form::kI128, {a}, input.byte() % 20, 30, lenient});
            return true;
        case Op::kToReal:
            if (of != Form::kI128) return false;
            nodes.push_back({op, Form::kF64, {a}, input.byte() % 20});
            return true;
        default: return false;
    }
}

std::size_t width_of(Form form) {
    switch (form) {
        case Form::kI8: case Form::kU8: return 1;
        case Form::kI16: case Form::kU16: return 2;
        case Form::kI32: case Form::kU32: case Form::kF32: return 4;
        case Form::kI64: case Form::kU64: case Form::kF64: return 8;
        default: return 16;
    }
}

void compare(const ArrowArray& a, const ArrowArray& b, Form form) {
    if (a.length != b.length || a.null_count != b.null_count) fuzzing::differ("rows");
    const auto bit = [](const void* bits, std::size_t i) { return static_cast<const std::uint8_t*>(bits)[i / 8] >> (i % 8) & 1; };
    const std::size_t width = width_of(form);
    for (std::size_t i = 0; i < static_cast<std::size_t>(a.length); ++i) {
        const bool valid = a.buffers[0] == nullptr || bit(a.buffers[0], i);
        if (valid != (b.buffers[0] == nullptr || bit(b.buffers[0], i))) fuzzing::differ("validity");
        if (!valid) continue;
        if (form == Form::kBool) {
            if (bit(a.buffers[1], i) != bit(b.buffers[1], i)) fuzzing::differ("bits");
            continue;
        }
        const auto* x = static_cast<const std::uint8_t*>(a.buffers[1]) + i * width;
        const auto* y = static_cast<const std::uint8_t*>(b.buffers[1]) + i * width;
        if (std::memcmp(x, y, width) == 0) continue;
        double p = 0, q = 0;
        if (form == Form::kF64) {
            std::memcpy(&p, x, 8);
            std::memcpy(&q, y, 8);
        }
        // Which NaN an operation gives is the processor's choice.
        if (form != Form::kF32 && !(std::isnan(p) && std::isnan(q))) fuzzing::differ("values");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t length) {
    fuzzing::Input input(bytes, length);
    const std::size_t rows = std::size_t{input.byte()} * 256 % kRows + input.byte() % 3;
    const int nulls = input.byte();
    const std::vector<ColumnSpec> columns = {{Layout::kFixed, 8}, {Layout::kFixed, 8}, {Layout::kFixed, 4}, {Layout::kBits, 0},
                                             {Layout::kViews, 16}};
    std::vector<Node> nodes;
    const Form forms[] = {Form::kI64, Form::kF64, Form::kI32, Form::kBool, Form::kText};
    for (int c = 0; c < 5; ++c) nodes.push_back({Op::kColumn, forms[c], {}, c});
    nodes.push_back({Op::kConstant, Form::kI64, {}, 0, 0, false, std::string("\3\0\0\0\0\0\0\0", 8)});
    nodes.push_back({Op::kConstant, Form::kText, {}, 0, 0, false, "ab"});
    nodes.push_back({Op::kCast, Form::kI128, {0}});
    std::vector<Conjunct> conjuncts;
    std::vector<OutputSpec> outputs;
    for (int i = 0; i < 12; ++i) {
        if (!make_node(input, nodes)) continue;
        const int made = static_cast<int>(nodes.size()) - 1;
        const int use = input.byte() % 4;
        if (use == 0 && nodes.back().form == Form::kBool) conjuncts.push_back({made, input.byte() % 2 == 0});
        if (use == 1) outputs.push_back({made, -1});
        if (use == 2) outputs.push_back({-1, static_cast<int>(input.byte() % 5)});
    }
    std::size_t given = 0;
    const auto data = input.rest(given);
    Result first;
    for (const Kernels* const* k = available_kernels(); *k != nullptr; ++k) {
        Batch batch(rows, nulls, data.get(), given);
        Program program(columns, nodes, conjuncts, outputs, (*k)->name);
        ArrowArray array = batch.array();
        Result result = program.run(array, rows, Passed::kLeft);
        if (result.status == Status::kNoMemory || result.rows > rows) std::abort();
        if (k == available_kernels()) {
            first = result;
            continue;
        }
        if (result.status != first.status || result.rows != first.rows || result.whole != first.whole) fuzzing::differ("result");
        if (result.array == nullptr) continue;
        std::int64_t child = 0;
        for (const OutputSpec& output : outputs) {
            if (output.column >= 0 && result.whole) continue;
            const Form form = output.column >= 0 ? forms[output.column] : nodes[static_cast<std::size_t>(output.node)].form;
            compare(*first.array->children[child], *result.array->children[child], form);
            ++child;
        }
        result.array->release(result.array);
        std::free(result.array);
    }
    if (first.array != nullptr) {
        first.array->release(first.array);
        std::free(first.array);
    }
    return 0;
}
