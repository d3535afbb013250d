// Reads the case files written by oracle/tokenizer_oracle.py and compares the tokenizer with them.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/text/detokenizer.h"
#include "coordinator/text/tokenizer.h"

namespace beryl::text::testing {

inline std::string test_data(const std::string& name) {
  return std::string(BERYL_SOURCE_DIR) + "/tests/data/" + name;
}

inline std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path) {
  auto tokenizer = Tokenizer::load(path);
  if (!tokenizer) {
    ADD_FAILURE() << tokenizer.error().message;
    return nullptr;
  }
  return std::move(*tokenizer);
}

inline std::unique_ptr<Tokenizer> load_tiny() {
  return load_tokenizer(test_data("tiny/tokenizer.json"));
}

inline std::string from_hex(std::string_view hex) {
  std::string bytes;
  if (hex == "-") return bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  }
  return bytes;
}

inline std::vector<int32_t> parse_ids(const std::string& list) {
  std::vector<int32_t> ids;
  if (list == "-") return ids;
  std::istringstream stream(list);
  for (std::string id; std::getline(stream, id, ',');) ids.push_back(std::stoi(id));
  return ids;
}

// Number of cases in the file at `path`; each is checked.
inline size_t check_oracle_file(const Tokenizer& tokenizer, const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  std::string kind, input, expected;
  size_t num_cases = 0;
  while (file >> kind >> input >> expected) {
    ++num_cases;
    if (kind == "P" || kind == "S") {
      const std::string text = from_hex(input);
      const auto ids = kind == "P" ? tokenizer.encode(text) : tokenizer.encode_with_special(text);
      if (!ids.has_value()) {
        ADD_FAILURE() << ids.error().message;
      } else if (*ids != parse_ids(expected)) {
        ADD_FAILURE() << kind << " case " << num_cases << " of " << path << ": " << text;
      }
    } else {
      const std::string text = decode(tokenizer, parse_ids(input), kind == "D");
      if (text != from_hex(expected)) {
        ADD_FAILURE() << kind << " case " << num_cases << " of " << path << ": " << input;
      }
    }
    if (::testing::Test::HasFailure()) break;
  }
  return num_cases;
}

}  // namespace beryl::text::testing
