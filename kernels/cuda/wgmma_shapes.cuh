// Operand lists of wgmma for every number of columns n (8, 16, .. 256): a thread holds n / 2
// numbers of the result, and inline assembly wants each by name.
#pragma once

#define BERYL_WGMMA_TEXT_8 "%0, %1, %2, %3"
#define BERYL_WGMMA_TEXT_16 BERYL_WGMMA_TEXT_8 ", %4, %5, %6, %7"
#define BERYL_WGMMA_TEXT_24 BERYL_WGMMA_TEXT_16 ", %8, %9, %10, %11"
#define BERYL_WGMMA_TEXT_32 BERYL_WGMMA_TEXT_24 ", %12, %13, %14, %15"
#define BERYL_WGMMA_TEXT_40 BERYL_WGMMA_TEXT_32 ", %16, %17, %18, %19"
#define BERYL_WGMMA_TEXT_48 BERYL_WGMMA_TEXT_40 ", %20, %21, %22, %23"
#define BERYL_WGMMA_TEXT_56 BERYL_WGMMA_TEXT_48 ", %24, %25, %26, %27"
#define BERYL_WGMMA_TEXT_64 BERYL_WGMMA_TEXT_56 ", %28, %29, %30, %31"
#define BERYL_WGMMA_TEXT_72 BERYL_WGMMA_TEXT_64 ", %32, %33, %34, %35"
#define BERYL_WGMMA_TEXT_80 BERYL_WGMMA_TEXT_72 ", %36, %37, %38, %39"
#define BERYL_WGMMA_TEXT_88 BERYL_WGMMA_TEXT_80 ", %40, %41, %42, %43"
#define BERYL_WGMMA_TEXT_96 BERYL_WGMMA_TEXT_88 ", %44, %45, %46, %47"
#define BERYL_WGMMA_TEXT_104 BERYL_WGMMA_TEXT_96 ", %48, %49, %50, %51"
#define BERYL_WGMMA_TEXT_112 BERYL_WGMMA_TEXT_104 ", %52, %53, %54, %55"
#define BERYL_WGMMA_TEXT_120 BERYL_WGMMA_TEXT_112 ", %56, %57, %58, %59"
#define BERYL_WGMMA_TEXT_128 BERYL_WGMMA_TEXT_120 ", %60, %61, %62, %63"
#define BERYL_WGMMA_TEXT_136 BERYL_WGMMA_TEXT_128 ", %64, %65, %66, %67"
#define BERYL_WGMMA_TEXT_144 BERYL_WGMMA_TEXT_136 ", %68, %69, %70, %71"
#define BERYL_WGMMA_TEXT_152 BERYL_WGMMA_TEXT_144 ", %72, %73, %74, %75"
#define BERYL_WGMMA_TEXT_160 BERYL_WGMMA_TEXT_152 ", %76, %77, %78, %79"
#define BERYL_WGMMA_TEXT_168 BERYL_WGMMA_TEXT_160 ", %80, %81, %82, %83"
#define BERYL_WGMMA_TEXT_176 BERYL_WGMMA_TEXT_168 ", %84, %85, %86, %87"
#define BERYL_WGMMA_TEXT_184 BERYL_WGMMA_TEXT_176 ", %88, %89, %90, %91"
#define BERYL_WGMMA_TEXT_192 BERYL_WGMMA_TEXT_184 ", %92, %93, %94, %95"
#define BERYL_WGMMA_TEXT_200 BERYL_WGMMA_TEXT_192 ", %96, %97, %98, %99"
#define BERYL_WGMMA_TEXT_208 BERYL_WGMMA_TEXT_200 ", %100, %101, %102, %103"
#define BERYL_WGMMA_TEXT_216 BERYL_WGMMA_TEXT_208 ", %104, %105, %106, %107"
#define BERYL_WGMMA_TEXT_224 BERYL_WGMMA_TEXT_216 ", %108, %109, %110, %111"
#define BERYL_WGMMA_TEXT_232 BERYL_WGMMA_TEXT_224 ", %112, %113, %114, %115"
#define BERYL_WGMMA_TEXT_240 BERYL_WGMMA_TEXT_232 ", %116, %117, %118, %119"
#define BERYL_WGMMA_TEXT_248 BERYL_WGMMA_TEXT_240 ", %120, %121, %122, %123"
#define BERYL_WGMMA_TEXT_256 BERYL_WGMMA_TEXT_248 ", %124, %125, %126, %127"

#define BERYL_WGMMA_RESULT_8(d) "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
#define BERYL_WGMMA_RESULT_16(d) \
  BERYL_WGMMA_RESULT_8(d), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
#define BERYL_WGMMA_RESULT_24(d) \
  BERYL_WGMMA_RESULT_16(d), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11])
#define BERYL_WGMMA_RESULT_32(d) \
  BERYL_WGMMA_RESULT_24(d), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
#define BERYL_WGMMA_RESULT_40(d) \
  BERYL_WGMMA_RESULT_32(d), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19])
#define BERYL_WGMMA_RESULT_48(d) \
  BERYL_WGMMA_RESULT_40(d), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23])
#define BERYL_WGMMA_RESULT_56(d) \
  BERYL_WGMMA_RESULT_48(d), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27])
#define BERYL_WGMMA_RESULT_64(d) \
  BERYL_WGMMA_RESULT_56(d), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
#define BERYL_WGMMA_RESULT_72(d) \
  BERYL_WGMMA_RESULT_64(d), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35])
#define BERYL_WGMMA_RESULT_80(d) \
  BERYL_WGMMA_RESULT_72(d), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39])
#define BERYL_WGMMA_RESULT_88(d) \
  BERYL_WGMMA_RESULT_80(d), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43])
#define BERYL_WGMMA_RESULT_96(d) \
  BERYL_WGMMA_RESULT_88(d), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47])
#define BERYL_WGMMA_RESULT_104(d) \
  BERYL_WGMMA_RESULT_96(d), "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51])
#define BERYL_WGMMA_RESULT_112(d) \
  BERYL_WGMMA_RESULT_104(d), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55])
#define BERYL_WGMMA_RESULT_120(d) \
  BERYL_WGMMA_RESULT_112(d), "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59])
#define BERYL_WGMMA_RESULT_128(d) \
  BERYL_WGMMA_RESULT_120(d), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
#define BERYL_WGMMA_RESULT_136(d) \
  BERYL_WGMMA_RESULT_128(d), "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67])
#define BERYL_WGMMA_RESULT_144(d) \
  BERYL_WGMMA_RESULT_136(d), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71])
#define BERYL_WGMMA_RESULT_152(d) \
  BERYL_WGMMA_RESULT_144(d), "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75])
#define BERYL_WGMMA_RESULT_160(d) \
  BERYL_WGMMA_RESULT_152(d), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79])
#define BERYL_WGMMA_RESULT_168(d) \
  BERYL_WGMMA_RESULT_160(d), "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83])
#define BERYL_WGMMA_RESULT_176(d) \
  BERYL_WGMMA_RESULT_168(d), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87])
#define BERYL_WGMMA_RESULT_184(d) \
  BERYL_WGMMA_RESULT_176(d), "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91])
#define BERYL_WGMMA_RESULT_192(d) \
  BERYL_WGMMA_RESULT_184(d), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95])
#define BERYL_WGMMA_RESULT_200(d) \
  BERYL_WGMMA_RESULT_192(d), "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99])
#define BERYL_WGMMA_RESULT_208(d) \
  BERYL_WGMMA_RESULT_200(d), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103])
#define BERYL_WGMMA_RESULT_216(d) \
  BERYL_WGMMA_RESULT_208(d), "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107])
#define BERYL_WGMMA_RESULT_224(d) \
  BERYL_WGMMA_RESULT_216(d), "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111])
#define BERYL_WGMMA_RESULT_232(d) \
  BERYL_WGMMA_RESULT_224(d), "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115])
#define BERYL_WGMMA_RESULT_240(d) \
  BERYL_WGMMA_RESULT_232(d), "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119])
#define BERYL_WGMMA_RESULT_248(d) \
  BERYL_WGMMA_RESULT_240(d), "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123])
#define BERYL_WGMMA_RESULT_256(d) \
  BERYL_WGMMA_RESULT_248(d), "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])

// use(n, the seven operand numbers after those of the result).
#define BERYL_WGMMA_SHAPES(use)                                                                    \
  use(8, 4, 5, 6, 7, 8, 9, 10) use(16, 8, 9, 10, 11, 12, 13, 14)                                   \
      use(24, 12, 13, 14, 15, 16, 17, 18) use(32, 16, 17, 18, 19, 20, 21, 22) use(                 \
          40, 20, 21, 22, 23, 24, 25, 26) use(48, 24, 25, 26, 27, 28, 29, 30)                      \
          use(56, 28, 29, 30, 31, 32, 33, 34) use(64, 32, 33, 34, 35, 36, 37, 38) use(             \
              72, 36, 37, 38, 39, 40, 41, 42) use(80, 40, 41, 42, 43, 44, 45, 46)                  \
              use(88, 44, 45, 46, 47, 48, 49, 50) use(96, 48, 49, 50, 51, 52, 53, 54) use(         \
                  104, 52, 53, 54, 55, 56, 57, 58) use(112, 56, 57, 58, 59, 60, 61, 62)            \
                  use(120, 60, 61, 62, 63, 64, 65, 66) use(128, 64, 65, 66, 67, 68, 69, 70) use(   \
                      136, 68, 69, 70, 71, 72, 73, 74) use(144, 72, 73, 74, 75, 76, 77, 78)        \
                      use(152, 76, 77, 78, 79, 80, 81, 82) use(160, 80, 81, 82, 83, 84, 85, 86)    \
                          use(168, 84, 85, 86, 87, 88, 89, 90)                                     \
                              use(176, 88, 89, 90, 91, 92, 93, 94)                                 \
                                  use(184, 92, 93, 94, 95, 96, 97, 98)                             \
                                      use(192, 96, 97, 98, 99, 100, 101, 102) use(                 \
                                          200, 100, 101, 102, 103, 104, 105, 106)                  \
                                          use(208, 104, 105, 106, 107, 108, 109, 110) use(         \
                                              216, 108, 109, 110, 111, 112, 113, 114)              \
                                              use(224, 112, 113, 114, 115, 116, 117, 118) use(     \
                                                  232, 116, 117, 118, 119, 120, 121, 122)          \
                                                  use(240, 120, 121, 122, 123, 124, 125, 126) use( \
                                                      248, 124, 125, 126, 127, 128, 129, 130)      \
                                                      use(256, 128, 129, 130, 131, 132, 133, 134)
