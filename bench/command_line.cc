#include "bench/command_line.h"

#include <fstream>

namespace beryl::bench {
namespace {

// In the form of a shell.
std::string quoted(const std::string& word) {
  if (!word.empty() && word.find_first_of(" \t\n'\"$\\*?&|;<>(){}[]`!#~") == std::string::npos) {
    return word;
  }
  std::string out = "'";
  for (const char c : word) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out + "'";
}

}  // namespace

std::string command_line() {
  std::ifstream in("/proc/self/cmdline");
  std::string line;
  bool hides_next = false;  // the value of --api-key
  for (std::string word; std::getline(in, word, '\0');) {
    if (word.starts_with("--api-key=")) word = "--api-key=...";
    if (!line.empty()) line += ' ';
    line += hides_next ? "..." : quoted(word);
    hides_next = word == "--api-key";
  }
  return line;
}

}  // namespace beryl::bench
