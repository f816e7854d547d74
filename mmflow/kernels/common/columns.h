// Columns that a decoder fills.
#pragma once
#include <new>
#include <vector>

#include "common/rows.h"

namespace mmflow {

struct Columns {
    std::vector<Column> list;
    Bytes offsets;

    explicit Columns(const std::vector<Target>& targets) : list(targets.size()) {
        for (std::size_t i = 0; i < targets.size(); ++i) {
            if (!list[i].open(targets[i].type)) {
                release();
                throw std::bad_alloc();
            }
        }
    }
    Columns(const Columns&) = delete;
    Columns& operator=(const Columns&) = delete;
    ~Columns() { release(); }

   private:
    void release() {
        for (Column& column : list) column.release();
        offsets.release();
    }
};

}  // namespace mmflow
