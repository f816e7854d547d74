// Compiled only into a module that holds libstdc++ (MMFLOW_STATIC_LIBSTDCXX). That library asks glibc, from 2.32 on, whether
// the process has one thread. "No" is always right, and the module loads with an older glibc, too.
extern "C" [[gnu::visibility("hidden")]] char __libc_single_threaded;
char __libc_single_threaded = 0;
