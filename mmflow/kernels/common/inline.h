// For functions that take a few nanoseconds, much of which a call would be.
#pragma once

#define MMFLOW_INLINE [[gnu::always_inline]] inline
