// data: URIs and their encodings.
#include "coordinator/media/data_uri.h"

#include <gtest/gtest.h>

#include <random>

#include "coordinator/media/base64.h"
#include "tests/coordinator/media/encoders.h"
#include "tests/coordinator/media/mutation.h"

namespace beryl::media {
namespace {

TEST(Base64Test, ReadsWhatOpenSslWrites) {
  std::mt19937_64 random(5);
  for (size_t size = 0; size < 400; ++size) {
    std::string bytes(size, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    EXPECT_EQ(decode_base64(to_base64(bytes)), bytes);
  }
}

TEST(Base64Test, RefusesEverythingElse) {
  for (const std::string_view text :
       {"A", "AA", "AAA", "AAAAA", "AA==AAAA", "A===", "====", "AA=A", "AA A", "AAA\n", "AA\0A",
        "AAA-", "AAA_", "AB==", "AAB=", "AAAA\n", "\xff\xff\xff\xff", "=AAA"}) {
    EXPECT_FALSE(decode_base64(text)) << text;
  }
  // Each position of a group is looked at.
  for (size_t i = 0; i < 8; ++i) {
    std::string text = "AAAAAAAA";
    text[i] = '*';
    EXPECT_FALSE(decode_base64(text)) << text;
  }
}

std::string bytes_of(std::string_view uri) {
  const auto parsed = parse_data_uri(uri);
  if (!parsed) return "error: " + parsed.error().message;
  const auto bytes = decode_data_uri(*parsed, 8);
  return bytes ? *bytes : "error: " + bytes.error().message;
}

TEST(DataUriTest, DecodesBothEncodings) {
  EXPECT_EQ(bytes_of("data:image/png;base64,SGVsbG8="), "Hello");
  EXPECT_EQ(bytes_of("data:image/png;charset=x;BASE64,SGVsbG8="), "Hello");
  EXPECT_EQ(bytes_of("data:;base64,SGVsbG8%3D"), "Hello");
  EXPECT_EQ(bytes_of("data:,He%6C%6co"), "Hello");
  EXPECT_EQ(bytes_of("data:text/plain,"), "");
  EXPECT_EQ(parse_data_uri("data:video/jpeg;base64,AA==")->media_type, "video/jpeg");
}

TEST(DataUriTest, RefusesWhatIsWrong) {
  EXPECT_EQ(bytes_of("data:image/png;base64"),
            "error: The data: URI has no comma in front of its data.");
  EXPECT_EQ(bytes_of("data:image/png;base64,SGVsbG8"), "error: The data: URI is not valid base64.");
  EXPECT_EQ(bytes_of("data:,100%"), "error: The URI has a % without two hex digits.");
  EXPECT_EQ(bytes_of("data:,%g0"), "error: The URI has a % without two hex digits.");
  EXPECT_EQ(bytes_of("data:,123456789"),
            "error: The data: URI holds more than the 8 bytes allowed.");
  EXPECT_EQ(bytes_of("data:;base64,MTIzNDU2Nzg5"),
            "error: The data: URI holds more than the 8 bytes allowed.");
}

TEST(DataUriTest, DamagedOnesNeverDoMoreThanFail) {
  std::mt19937_64 random(11);
  for (size_t run = 0; run < num_mutation_runs(100'000); ++run) {
    std::string uri =
        random() % 2 == 0 ? "data:image/png;base64,SGVsbG8gd29ybGQ=" : "data:,a%20b%ffc";
    mutate(uri, random);
    const std::string bytes = bytes_of(uri);
    ASSERT_TRUE(bytes.size() <= 8 || bytes.starts_with("error: "));
  }
}

}  // namespace
}  // namespace beryl::media
