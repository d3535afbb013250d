// Speed of the tokenizer on one core: bytes/s of encode() and decode(), seconds to load.
//   bench_tokenizer TOKENIZER_JSON TEXT_FILE [Google Benchmark flags]
// Verifies first that the ids turn back into the text.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/text/detokenizer.h"
#include "coordinator/text/tokenizer.h"

namespace {

using beryl::text::Tokenizer;

void bench_load(benchmark::State& state, const std::string& path) {
  for (auto _ : state) benchmark::DoNotOptimize(Tokenizer::load(path));
}

void bench_encode(benchmark::State& state, const Tokenizer& tokenizer, const std::string& text) {
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.encode(text));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}

void bench_decode(benchmark::State& state, const Tokenizer& tokenizer, const std::string& text) {
  const std::vector<int32_t> ids = *tokenizer.encode(text);
  for (auto _ : state) benchmark::DoNotOptimize(beryl::text::decode(tokenizer, ids, true));
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(ids.size()));
}

// Texts without a border to cut at: the merges must be near linear by themselves.
constexpr std::pair<const char*, const char*> kRepeated[] = {
    {"letter", "a"}, {"space", " "}, {"newline", "\n"}, {"two_letters", "ab"}};

std::string repeated(const std::string& unit) {
  std::string text;
  while (text.size() < (1 << 20)) text += unit;
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (argc != 3) {
    std::fprintf(stderr, "usage: bench_tokenizer TOKENIZER_JSON TEXT_FILE\n");
    return 2;
  }
  const std::string path = argv[1];
  auto loaded = Tokenizer::load(path);
  if (!loaded) {
    std::fprintf(stderr, "%s\n", loaded.error().message.c_str());
    return 1;
  }
  const Tokenizer& tokenizer = **loaded;
  std::ifstream file(argv[2], std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  text.resize(std::min(text.size(), beryl::text::kMaxEncodeBytes));
  const auto ids = tokenizer.encode(text);
  if (!ids || beryl::text::decode(tokenizer, *ids, true) != text) {
    std::fprintf(stderr, "%s is empty, not UTF-8, or does not come back\n", argv[2]);
    return 1;
  }
  benchmark::RegisterBenchmark("BM_TokenizerLoad", bench_load, path)->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark("BM_TokenizerEncode/text:file", bench_encode, std::cref(tokenizer),
                               text);
  for (const auto& [name, unit] : kRepeated) {
    benchmark::RegisterBenchmark(("BM_TokenizerEncode/text:repeated_" + std::string(name)).c_str(),
                                 bench_encode, std::cref(tokenizer), repeated(unit));
  }
  benchmark::RegisterBenchmark("BM_TokenizerDecode/text:file", bench_decode, std::cref(tokenizer),
                               text);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
