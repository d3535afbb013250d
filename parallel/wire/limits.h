// Every limit of the protocol between coordinator and workers, in one place.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace beryl::wire {

// Raised whenever a field changes its meaning; both sides must be equal.
constexpr uint32_t kProtocolVersion = 3;

// Frames by what may arrive. Before authentication nobody may make the peer hold much memory.
constexpr size_t kMaxHandshakeFrameBytes = size_t{64} << 10;
constexpr size_t kMaxPlanFrameBytes = size_t{32} << 20;    // 4 M queued prompt tokens, 3-4 B each
constexpr size_t kMaxResultFrameBytes = size_t{64} << 20;  // prompt log-probabilities, 20 a token
// Pixels along each side of a picture come in units of one soft token: 3 x 3 patches of 16 pixels.
constexpr uint32_t kSoftTokenSize = 48;
constexpr uint32_t kPatchesPerSoftToken = 9;
constexpr uint32_t kPatchBytes = 16 * 16 * 3;
constexpr uint32_t kMaxPicturePatches = 10'080;  // 1,120 soft tokens, the model's largest budget
constexpr size_t kMaxPictureFrameBytes = size_t{kMaxPicturePatches} * kPatchBytes + 256;
constexpr int kMaxMessageDepth = 16;  // the contract needs 4

constexpr size_t kNonceBytes = 32;
constexpr size_t kProofBytes = 32;
constexpr size_t kMinSecretBytes = 16;
constexpr size_t kMaxSecretBytes = 4096;

constexpr uint32_t kMaxGroups = 4096;
constexpr uint32_t kMaxRanks = 4096;
constexpr uint32_t kMaxVocabSize = 1U << 24;
constexpr uint32_t kMaxModelLen = 1U << 24;
constexpr uint32_t kMaxLayers = 4096;
constexpr uint32_t kMaxExperts = 65'536;
constexpr uint32_t kMaxBlockSize = 4096;
constexpr uint32_t kMaxBlocks = 1U << 30;
constexpr uint32_t kMaxSeqs = 1U << 20;
constexpr uint32_t kMaxBatchedTokens = 1U << 22;
constexpr uint32_t kMaxFeatureTokens = 1U << 26;  // soft tokens that a rank keeps
constexpr int kMaxFeatureDrops = 1 << 16;         // of one rank in one step
constexpr int kMaxFeatureJobs = 1 << 16;          // of all ranks in one step
constexpr int kMaxForbiddenTokenIds = 4096;
constexpr size_t kMaxNameBytes = 256;     // launch id, host, device, version
constexpr size_t kMaxReasonBytes = 1024;  // errors and reasons, cut by the sender
constexpr int kMaxTopLogprobs = 20;
constexpr int kMaxTokensPerOutput = 16;  // one, or several with drafting
constexpr int kMaxStopTokenIds = 1024;
constexpr int kMaxLogitBias = 4096;

constexpr std::chrono::milliseconds kHandshakeDeadline{10'000};
// While a group waits for its last rank, before Welcome says other numbers.
constexpr std::chrono::milliseconds kWaitingHeartbeatInterval{1'000};
constexpr std::chrono::milliseconds kWaitingHeartbeatDeadline{15'000};
constexpr uint32_t kMaxHeartbeatMs = 600'000;
constexpr uint32_t kMaxStepDeadlineMs = 3'600'000;

}  // namespace beryl::wire
