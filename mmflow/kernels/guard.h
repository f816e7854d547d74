// SIGBUS guard: a page that a truncated file no longer has is replaced by zeros, and its window is marked.
//
// A mapped file that another process shortens makes every later touch of the missing pages a SIGBUS, which
// kills the process. The guard's handler, for addresses inside registered windows only, maps an anonymous
// zero page there and remembers the hit; the window's owner then raises SourceChangedError instead of
// using the bytes. All other faults go to the handler that was there before; if that hands them back, the process
// dies of them. A handler that another library puts over ours later is put below it when the next window is registered.
//
// The handler is async-signal-safe: it reads a table of atomics and calls mmap(2), nothing else. mmap is not
// on POSIX's list of such functions, but on Linux it is a plain system call.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mmflow {

// Install the handler. Idempotent.
// Returns 0, or the errno of sigaction.
int guard_install() noexcept;

// Watch [address, address + length). Returns a token, or -1 if the table is full (the window is then not
// guarded, as without this module).
std::int64_t guard_register(std::uintptr_t address, std::size_t length) noexcept;

// Stop watching. Call before the window is unmapped.
void guard_release(std::int64_t token) noexcept;

// Whether a fault in this window was answered with zeros.
bool guard_hit(std::int64_t token) noexcept;

// Number of windows being watched.
std::size_t guard_count() noexcept;

}  // namespace mmflow
