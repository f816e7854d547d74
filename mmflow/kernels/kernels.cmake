# The kernels know nothing of Python: the module, the fuzzers and the sanitized builds all compile these.
set(KERNELS guard.cpp arrow_c.cpp dictionary.cpp dispatch.cpp gather.cpp hashing.cpp memory.cpp isa_scalar.cpp isa_avx2.cpp
    isa_avx512.cpp isa_neon.cpp)
list(TRANSFORM KERNELS PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(AVX2 -mavx2 -mbmi -mbmi2 -mlzcnt -mpopcnt -mpclmul)
  set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/isa_avx2.cpp PROPERTIES COMPILE_OPTIONS "${AVX2}")
  # GCC 12 warns of what its own AVX-512 header leaves undefined on purpose.
  set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/isa_avx512.cpp PROPERTIES COMPILE_OPTIONS
                              "${AVX2};-mavx512f;-mavx512bw;-mavx512vbmi2;$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>")
endif()
