/* What the processor can do. */
#include "common.h"

/* Whether the kernels built for AVX2 (x86-64-v3) run here. */
KERNEL int32_t has_avx2(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2");
#else
    return 0;
#endif
}
