# The kernels know nothing of Python: the module, the fuzzers and the sanitized builds all compile these.
set(KERNELS_FOLDER ${CMAKE_CURRENT_LIST_DIR})
set(KERNELS aggregate/accumulators.cpp aggregate/aggregator.cpp aggregate/arrays.cpp aggregate/exact_sum.cpp
    aggregate/few_keys.cpp aggregate/float_measures.cpp aggregate/keys.cpp aggregate/known_texts.cpp aggregate/moments.cpp
    aggregate/short_texts.cpp aggregate/whole.cpp dictionary.cpp
    exchange/partitions.cpp filling.cpp gather.cpp guard.cpp hashing.cpp
    inflate/crc32.cpp inflate/decode_avx2.cpp inflate/decode_scalar.cpp inflate/inflate.cpp inflate/tables.cpp lengths.cpp common/arrow_c.cpp common/memory.cpp csv/cut.cpp
    csv/known.cpp csv/known_scalar.cpp csv/known_avx2.cpp csv/known_avx512.cpp csv/normal.cpp
    program/output.cpp program/primitives.cpp program/primitives_scalar.cpp program/primitives_avx2.cpp
    program/primitives_avx512.cpp program/program.cpp scan/loop.cpp simd/dispatch.cpp sort/row_order.cpp sort/windows.cpp
    simd/isa_scalar.cpp simd/isa_avx2.cpp simd/isa_avx512.cpp simd/isa_neon.cpp)
list(TRANSFORM KERNELS PREPEND ${KERNELS_FOLDER}/)
# On macOS, a wheel may be built for the other processor.
if(CMAKE_OSX_ARCHITECTURES)
  set(PROCESSOR ${CMAKE_OSX_ARCHITECTURES})
else()
  set(PROCESSOR ${CMAKE_SYSTEM_PROCESSOR})
endif()
if(PROCESSOR MATCHES "^(x86_64|AMD64)$")
  set(AVX2 -mavx2 -mbmi -mbmi2 -mlzcnt -mpopcnt -mpclmul)
  set_source_files_properties(${KERNELS_FOLDER}/simd/isa_avx2.cpp ${KERNELS_FOLDER}/program/primitives_avx2.cpp
                              ${KERNELS_FOLDER}/csv/known_avx2.cpp ${KERNELS_FOLDER}/inflate/decode_avx2.cpp
                              PROPERTIES COMPILE_OPTIONS "${AVX2}")
  # GCC 12 warns of what its own AVX-512 header leaves undefined on purpose.
  set_source_files_properties(${KERNELS_FOLDER}/simd/isa_avx512.cpp ${KERNELS_FOLDER}/program/primitives_avx512.cpp
                              ${KERNELS_FOLDER}/csv/known_avx512.cpp
                              PROPERTIES COMPILE_OPTIONS
                              "${AVX2};-mavx512f;-mavx512bw;-mavx512vbmi2;$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>")
endif()
