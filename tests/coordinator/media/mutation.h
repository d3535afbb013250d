// Random damage to bytes, from a seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>

namespace beryl::media {

// `by_default`, or what BERYL_MUTATION_RUNS says (the slow test sets it).
inline size_t num_mutation_runs(size_t by_default) {
  const char* const given = std::getenv("BERYL_MUTATION_RUNS");
  return given == nullptr ? by_default : std::strtoull(given, nullptr, 10);
}

inline void mutate(std::string& bytes, std::mt19937_64& random) {
  const size_t num_edits = 1 + random() % 4;
  for (size_t i = 0; i < num_edits && !bytes.empty(); ++i) {
    const size_t at = random() % bytes.size();
    switch (random() % 6) {
      case 0:
        bytes[at] = static_cast<char>(random());
        break;
      case 1:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << (random() % 8)));
        break;
      case 2:
        bytes.insert(at, 1, static_cast<char>(random()));
        break;
      case 3:
        bytes.erase(at, 1 + random() % 8);
        break;
      case 4:
        bytes.resize(at);
        break;
      default:
        bytes.insert(at, bytes.substr(random() % bytes.size(), random() % 16));
        break;
    }
  }
}

}  // namespace beryl::media
