// What the vision tower costs, in FLOP, so that encoding is spread over the ranks by work and not
// by number of pictures.
#pragma once

#include <cstdint>

namespace beryl::scheduler {

// The published tower (vision_config of google/gemma-4-26B-A4B-it).
inline constexpr uint64_t kVisionLayers = 27;
inline constexpr uint64_t kVisionHidden = 1152;
inline constexpr uint64_t kVisionMlp = 4304;
inline constexpr uint64_t kVisionHeads = 16;
inline constexpr uint64_t kVisionHeadDim = 72;

// FLOP of one patch whatever the picture: q, k, v and output projections, and the three matrices of
// the gated MLP; two operations a weight. 1.09 GFLOP.
inline constexpr uint64_t kPatchFlop =
    kVisionLayers * 2 *
    (4 * kVisionHidden * kVisionHeads * kVisionHeadDim + 3 * kVisionHidden * kVisionMlp);
// FLOP of one patch for each patch it attends to (all of its picture): scores and weighted sum.
// 1 / 8,760 of kPatchFlop, so attention is 29 % on top for a picture of 2,520 patches.
inline constexpr uint64_t kPatchPairFlop = kVisionLayers * 4 * kVisionHeads * kVisionHeadDim;

// A prompt token of the language model (4 G weights at work, attention aside).
inline constexpr uint64_t kPromptTokenFlop = 6'200'000'000;
// Features of a soft token that go to another rank: little data, but a message and a wait. A guess:
// enough to keep a picture at home among equals, too little to leave a rank idle for it.
inline constexpr uint64_t kMovedTokenFlop = kPromptTokenFlop / 16;

// num_patches * (a + b * num_patches).
constexpr uint64_t encode_flop(uint32_t num_patches) {
  return num_patches * (kPatchFlop + kPatchPairFlop * num_patches);
}
constexpr uint64_t move_flop(uint32_t num_soft_tokens) {
  return num_soft_tokens * kMovedTokenFlop;
}

}  // namespace beryl::scheduler
