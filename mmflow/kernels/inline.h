// For functions that take a few nanoseconds: a call would be a good part of that.
#pragma once

#define MMFLOW_INLINE [[gnu::always_inline]] inline
