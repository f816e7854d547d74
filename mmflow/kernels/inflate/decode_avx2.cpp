#include "inflate/decode.h"

#if defined(__AVX2__)
#include "inflate/decode.inl.h"

namespace mmflow {
extern const DecodeCodes kAvx2DecodeCodes = decode_codes;
}  // namespace mmflow
#else
namespace mmflow {
extern const DecodeCodes kAvx2DecodeCodes = nullptr;
}  // namespace mmflow
#endif
