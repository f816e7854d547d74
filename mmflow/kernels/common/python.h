// The interpreter's lock, and Arrow arrays as capsules: what the bindings share.
#pragma once
#include <nanobind/nanobind.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "common/arrow_c.h"

namespace mmflow {

// Calls a function that takes the GIL. Before Python 3.14, a thread that takes it after the interpreter's end is ended by
// pthread_exit, which unwinds frames that must not be unwound (destructors, pyarrow's, Rust's): the process aborts with
// "terminate called without an active exception". Here, as in 3.14, the thread sleeps until the process is gone.
template <typename Take>
void take_gil(Take take) noexcept {
    try {
        take();
    } catch (...) {  // only that end; leaving the handler would continue it
        for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
}

// Releases the GIL in a block.
class Unlocked {
   public:
    Unlocked() : state_(PyEval_SaveThread()) {}
    Unlocked(const Unlocked&) = delete;
    Unlocked& operator=(const Unlocked&) = delete;
    ~Unlocked() {
        take_gil([this] { PyEval_RestoreThread(state_); });
    }

   private:
    PyThreadState* state_;
};

// Holds the GIL in a block, whether the thread had it or not.
class Locked {
   public:
    Locked() {
        take_gil([this] { state_ = PyGILState_Ensure(); });
    }
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;
    ~Locked() { PyGILState_Release(state_); }

   private:
    PyGILState_STATE state_{};
};

// What a capsule of the Arrow PyCapsule Interface holds.
template <class T>
T& in_capsule(const nanobind::object& capsule, const char* name) {
    void* pointer = PyCapsule_GetPointer(capsule.ptr(), name);
    if (pointer == nullptr) throw nanobind::python_error();
    return *static_cast<T*>(pointer);
}

inline void release_capsule(PyObject* capsule) noexcept {
    auto* array = static_cast<ArrowArray*>(PyCapsule_GetPointer(capsule, "arrow_array"));
    if (array == nullptr) return;
    if (array->release != nullptr) array->release(array);
    std::free(array);
}

// A capsule that owns an array allocated by malloc.
inline nanobind::object array_capsule(ArrowArray* array) {
    return nanobind::steal(PyCapsule_New(array, "arrow_array", release_capsule));
}

}  // namespace mmflow
