// Speed of picture preprocessing on one core: resize, hash, and the whole way from a PNG file.
//   bench_media [DIRECTORY_OF_RECORDED_PICTURES] [Google Benchmark flags]
// Verifies first that a recorded resize (1920x1080_280.png) comes out bit for bit.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include "coordinator/media/image_decoder.h"
#include "coordinator/media/image_preparer.h"
#include "coordinator/media/resize.h"

namespace {

using beryl::media::ImageLimits;
using beryl::media::RgbImage;

// The picture that the recorded one was made from.
RgbImage source_picture() {
  constexpr uint32_t width = 1920, height = 1080;
  RgbImage image{width, height, {}};
  for (uint32_t y = 0; y < height; ++y) {
    for (uint32_t x = 0; x < width; ++x) {
      image.pixels.push_back(static_cast<uint8_t>(x * 255 / width));
      image.pixels.push_back(static_cast<uint8_t>((x / 24 + y / 24) % 2 * 160 + y * 95 / height));
      image.pixels.push_back(static_cast<uint8_t>((x * x + y * y) / 512 % 256));
    }
  }
  return image;
}

void bench_resize(benchmark::State& state) {
  const RgbImage source = source_picture();
  for (auto _ : state) benchmark::DoNotOptimize(resize_bicubic(source, {1056, 576}));
}

void bench_prepare(benchmark::State& state) {
  const RgbImage source = source_picture();
  const auto budget = static_cast<uint32_t>(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(beryl::media::prepare_image(source, budget));
}

void bench_decode(benchmark::State& state, const std::string& file) {
  for (auto _ : state) benchmark::DoNotOptimize(beryl::media::decode_image(file, ImageLimits{}));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(file.size()));
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  const std::string folder = argc > 1 ? argv[1] : "tests/data/media";
  std::ifstream stream(folder + "/1920x1080_280.png", std::ios::binary);
  const std::string file{std::istreambuf_iterator<char>(stream), {}};
  const auto recorded = beryl::media::decode_image(file, ImageLimits{});
  if (!recorded || recorded->pixels != resize_bicubic(source_picture(), {1056, 576}).pixels) {
    std::fprintf(stderr, "bench_media: the resized picture is not that of %s\n", folder.c_str());
    return 1;
  }
  benchmark::RegisterBenchmark("resize/1920x1080/1056x576", bench_resize)
      ->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark("prepare/1920x1080/budget", bench_prepare)
      ->Arg(70)
      ->Arg(280)
      ->Arg(1120)
      ->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark("decode_png/1056x576", bench_decode, file)
      ->Unit(benchmark::kMillisecond);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
