#include "inflate/decode.inl.h"

namespace mmflow {

extern const DecodeCodes kScalarDecodeCodes = decode_codes;

DecodeCodes find_decode_codes(const char* instruction_set) noexcept {
    if (kAvx2DecodeCodes != nullptr && std::strncmp(instruction_set, "avx", 3) == 0) return kAvx2DecodeCodes;
    return kScalarDecodeCodes;
}

}  // namespace mmflow
