#include "worker/weights/model_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "parallel/base/assert.h"
#include "worker/weights/load_error.h"
#include "worker/weights/parallel_for.h"
#include "worker/weights/tensor_list.h"

namespace beryl::weights {

using kernels::DType;
using kernels::TensorView;
using model::ModelConfig;

namespace {

constexpr size_t kAlignment = 256;        // of a tensor; what a device's own allocations have
constexpr size_t kChunkBytes = 8u << 20;  // of reading or filling, the unit of work of a thread

bool is_on_device(const LoadOptions& options) {
  return options.ops != nullptr && !options.ops->memory_is_host();
}

// A run of bytes of one tensor that must be brought into place.
struct Piece {
  const TensorSpec* spec = nullptr;
  const SafetensorsFile* file = nullptr;
  const std::byte* source = nullptr;  // in the mapped file; null: made by the dummy rule
  bool in_memory = false;             // written to own memory; otherwise only read in
  size_t memory_offset = 0;
  size_t tensor_offset = 0;  // bytes from the start of the whole tensor
  size_t num_bytes = 0;
};

bool is_consecutive(std::span<const int32_t> ids) {
  for (size_t i = 1; i < ids.size(); ++i) {
    if (ids[i] != ids[i - 1] + 1) return false;
  }
  return true;
}

TensorView make_view(const std::byte* data, const TensorSpec& spec, int64_t first_dim) {
  TensorView view;
  view.data = const_cast<std::byte*>(data);  // kernels read weights only
  view.dtype = DType::kBFloat16;
  view.num_dims = static_cast<int>(spec.shape.size());
  std::copy(spec.shape.begin(), spec.shape.end(), view.shape);
  view.shape[0] = first_dim;
  return view;
}

std::vector<Piece> split(const std::vector<Piece>& pieces) {
  std::vector<Piece> chunks;
  for (const Piece& piece : pieces) {
    for (size_t at = 0; at < piece.num_bytes; at += kChunkBytes) {
      Piece chunk = piece;
      chunk.num_bytes = std::min(kChunkBytes, piece.num_bytes - at);
      chunk.tensor_offset += at;
      chunk.memory_offset += at;
      if (chunk.source != nullptr) chunk.source += at;
      chunks.push_back(chunk);
    }
  }
  return chunks;
}

}  // namespace

struct ModelWeights::DeviceMemory {
  DeviceMemory(kernels::Ops& operations, size_t num_bytes)
      : ops(operations), data(static_cast<std::byte*>(operations.allocate(num_bytes))) {}
  ~DeviceMemory() { ops.free(data); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  kernels::Ops& ops;
  std::byte* const data;
};

// Collects the views and the work of one load, then does it.
class ModelWeights::Builder {
 public:
  Builder(const ModelConfig& config, const LoadOptions& options)
      : config_(config), options_(options), specs_(tensor_list(config)) {
    for (const int32_t id : options.local_experts) {
      BERYL_ASSERT(id >= 0 && id < config.num_experts, "expert {} of {}", id, config.num_experts);
    }
  }

  const std::vector<TensorSpec>& specs() const { return specs_; }

  void place_checkpoint(const Checkpoint& checkpoint);
  void place_dummy();
  void run(const DummySource& source);
  void finish(ModelWeights* weights);

 private:
  struct Placed {
    const TensorSpec* spec;
    const std::byte* mapped;  // null: `memory_offset` into own memory
    size_t memory_offset;
    int64_t first_dim;
  };

  int64_t first_dim(const TensorSpec& spec) const {
    return spec.is_per_expert() ? static_cast<int64_t>(options_.local_experts.size())
                                : spec.shape[0];
  }
  size_t slot_bytes(const TensorSpec& spec) const {
    return spec.num_bytes() / static_cast<size_t>(spec.shape[0]);
  }
  void place_in_memory(const TensorSpec& spec, const FoundTensor& found);
  void place_mapped(const TensorSpec& spec, const std::byte* source);
  static void check_read(bool is_read, const Piece& chunk);
  void run_chunk(const Piece& chunk, const DummySource& source) const;
  void run_device_chunk(const Piece& chunk, const DummySource& source) const;
  uint16_t read_scalar(const TensorView& view) const;
  LayerWeights assemble_layer(int layer) const;

  const ModelConfig& config_;
  const LoadOptions& options_;
  std::vector<TensorSpec> specs_;
  std::vector<Placed> placed_;
  std::vector<Piece> pieces_;
  size_t memory_bytes_ = 0;
  size_t total_bytes_ = 0;
  WeightMemory memory_;
  std::shared_ptr<DeviceMemory> device_memory_;
  std::byte* own_memory_ = nullptr;  // of either
  std::map<std::string, TensorView> views_;
};

void ModelWeights::Builder::place_in_memory(const TensorSpec& spec, const FoundTensor& found) {
  const std::byte* source = found.file == nullptr ? nullptr : found.data().data();
  const size_t begin = memory_bytes_;
  const auto add = [&](size_t tensor_offset, size_t num_bytes) {
    pieces_.push_back({.spec = &spec,
                       .file = found.file,
                       .source = source == nullptr ? nullptr : source + tensor_offset,
                       .in_memory = true,
                       .memory_offset = memory_bytes_,
                       .tensor_offset = tensor_offset,
                       .num_bytes = num_bytes});
    memory_bytes_ += num_bytes;
  };
  if (spec.is_per_expert()) {
    const size_t bytes = slot_bytes(spec);
    for (const int32_t id : options_.local_experts) add(static_cast<size_t>(id) * bytes, bytes);
  } else {
    add(0, spec.num_bytes());
  }
  placed_.push_back({&spec, nullptr, begin, first_dim(spec)});
  total_bytes_ += memory_bytes_ - begin;
  memory_bytes_ = (memory_bytes_ + kAlignment - 1) / kAlignment * kAlignment;
}

void ModelWeights::Builder::place_mapped(const TensorSpec& spec, const std::byte* source) {
  size_t offset = 0;
  if (spec.is_per_expert() && !options_.local_experts.empty()) {
    offset = static_cast<size_t>(options_.local_experts.front()) * slot_bytes(spec);
  }
  const size_t num_bytes = static_cast<size_t>(first_dim(spec)) * slot_bytes(spec);
  placed_.push_back({&spec, source + offset, 0, first_dim(spec)});
  total_bytes_ += num_bytes;
  if (!options_.prefetch) return;
  pieces_.push_back(
      {.spec = &spec, .source = source + offset, .tensor_offset = offset, .num_bytes = num_bytes});
}

void ModelWeights::Builder::place_checkpoint(const Checkpoint& checkpoint) {
  const bool in_place = is_consecutive(options_.local_experts);
  for (const TensorSpec& spec : specs_) {
    const FoundTensor found = checkpoint.find(spec.name);
    if (is_on_device(options_) || (spec.is_per_expert() && !in_place)) {
      place_in_memory(spec, found);
    } else {
      place_mapped(spec, found.data().data());
    }
  }
}

void ModelWeights::Builder::place_dummy() {
  for (const TensorSpec& spec : specs_) place_in_memory(spec, {});
}

void ModelWeights::Builder::check_read(bool is_read, const Piece& chunk) {
  if (is_read) return;
  throw LoadError(
      fmt::format("tensor \"{}\": expected {} readable bytes, found a file that "
                  "shrank or a read error",
                  chunk.spec->name, chunk.num_bytes));
}

void ModelWeights::Builder::run_chunk(const Piece& chunk, const DummySource& source) const {
  if (device_memory_) return run_device_chunk(chunk, source);
  if (chunk.source != nullptr) check_read(populate(chunk.source, chunk.num_bytes), chunk);
  if (!chunk.in_memory) return;
  std::byte* const destination = own_memory_ + chunk.memory_offset;
  if (chunk.source != nullptr) {
    std::memcpy(destination, chunk.source, chunk.num_bytes);
    return;
  }
  const std::string& name = chunk.spec->name;
  const DummyRule rule = dummy_rule(name, chunk.spec->shape.back(), source.post_norm);
  fill_dummy(dummy_key(source.seed, name), rule, chunk.tensor_offset / sizeof(uint16_t),
             {reinterpret_cast<uint16_t*>(destination), chunk.num_bytes / sizeof(uint16_t)});
}

void ModelWeights::Builder::run_device_chunk(const Piece& chunk, const DummySource& source) const {
  std::byte* const destination = own_memory_ + chunk.memory_offset;
  if (chunk.source != nullptr) {
    options_.ops->upload_from(
        destination, chunk.num_bytes, [&](size_t offset, std::byte* to, size_t num_bytes) {
          check_read(chunk.file->read(chunk.source + offset, to, num_bytes), chunk);
        });
    return;
  }
  const std::string& name = chunk.spec->name;
  const DummyRule rule = dummy_rule(name, chunk.spec->shape.back(), source.post_norm);
  options_.ops->fill_hashed({dummy_key(source.seed, name), rule.offset, rule.scale},
                            chunk.tensor_offset / sizeof(uint16_t),
                            reinterpret_cast<uint16_t*>(destination),
                            chunk.num_bytes / sizeof(uint16_t));
}

void ModelWeights::Builder::run(const DummySource& source) {
  if (is_on_device(options_)) {
    device_memory_ = std::make_shared<DeviceMemory>(*options_.ops, memory_bytes_);
    own_memory_ = device_memory_->data;
  } else {
    memory_ = WeightMemory(memory_bytes_);
    own_memory_ = memory_.bytes().data();
  }
  size_t work_bytes = 0;
  for (const Piece& piece : pieces_) work_bytes += piece.num_bytes;
  base::Progress progress(work_bytes, options_.progress);
  const std::vector<Piece> chunks = split(pieces_);
  parallel_for(options_.num_threads, chunks.size(), [&](size_t i) {
    run_chunk(chunks[i], source);
    progress.add(chunks[i].num_bytes);
  });
  progress.finish();
  for (const Placed& placed : placed_) {
    const std::byte* data =
        placed.mapped != nullptr ? placed.mapped : own_memory_ + placed.memory_offset;
    views_.emplace(placed.spec->name, make_view(data, *placed.spec, placed.first_dim));
  }
}

uint16_t ModelWeights::Builder::read_scalar(const TensorView& view) const {
  uint16_t value = 0;
  if (device_memory_) {
    options_.ops->download(&value, view.data, sizeof(value));
  } else {
    value = *view.bf16();
  }
  return value;
}

LayerWeights ModelWeights::Builder::assemble_layer(int layer) const {
  const std::string prefix = layer_prefix(layer);
  const auto get = [&](const char* name) { return views_.at(prefix + name); };
  const bool is_sliding =
      config_.layer_kinds[static_cast<size_t>(layer)] == model::LayerKind::kSliding;
  LayerWeights weights;
  weights.input_layernorm = get("input_layernorm.weight");
  weights.attention = {.q_proj = get("self_attn.q_proj.weight"),
                       .k_proj = get("self_attn.k_proj.weight"),
                       .v_proj = is_sliding ? get("self_attn.v_proj.weight") : TensorView{},
                       .q_norm = get("self_attn.q_norm.weight"),
                       .k_norm = get("self_attn.k_norm.weight")};
  weights.o_proj = get("self_attn.o_proj.weight");
  weights.post_attention_layernorm = get("post_attention_layernorm.weight");
  weights.pre_feedforward_layernorm = get("pre_feedforward_layernorm.weight");
  weights.mlp = {.gate_proj = get("mlp.gate_proj.weight"),
                 .up_proj = get("mlp.up_proj.weight"),
                 .down_proj = get("mlp.down_proj.weight")};
  weights.router = {.proj = get("router.proj.weight"),
                    .scale = get("router.scale"),
                    .per_expert_scale = get("router.per_expert_scale")};
  weights.pre_feedforward_layernorm_2 = get("pre_feedforward_layernorm_2.weight");
  weights.experts = {.gate_up_proj = get("experts.gate_up_proj"),
                     .down_proj = get("experts.down_proj")};
  const uint32_t scalar_bits = uint32_t{read_scalar(get("layer_scalar"))} << 16;
  weights.merge = {.dense_norm = get("post_feedforward_layernorm_1.weight"),
                   .experts_norm = get("post_feedforward_layernorm_2.weight"),
                   .post_norm = get("post_feedforward_layernorm.weight"),
                   .layer_scalar = std::bit_cast<float>(scalar_bits)};
  return weights;
}

void ModelWeights::Builder::finish(ModelWeights* weights) {
  weights->embed_tokens_ = views_.at("model.language_model.embed_tokens.weight");
  weights->norm_ = views_.at("model.language_model.norm.weight");
  for (int layer = 0; layer < config_.num_hidden_layers; ++layer) {
    weights->layers_.push_back(assemble_layer(layer));
  }
  if (config_.vision) {
    weights->vision_ = assemble_vision(*config_.vision,
                                       [this](const std::string& name) { return views_.at(name); });
  }
  weights->memory_ = std::move(memory_);
  weights->device_memory_ = std::move(device_memory_);
  weights->num_bytes_ = total_bytes_;
}

ModelWeights ModelWeights::from_checkpoint(const ModelConfig& config, Checkpoint checkpoint,
                                           const LoadOptions& options) {
  Builder builder(config, options);
  check_checkpoint(checkpoint, builder.specs());
  ModelWeights weights;
  weights.checkpoint_.emplace(std::move(checkpoint));
  builder.place_checkpoint(*weights.checkpoint_);
  builder.run({});
  builder.finish(&weights);
  if (is_on_device(options)) weights.checkpoint_.reset();  // everything was copied
  return weights;
}

ModelWeights ModelWeights::from_seed(const ModelConfig& config, const DummySource& source,
                                     const LoadOptions& options) {
  Builder builder(config, options);
  builder.place_dummy();
  builder.run(source);
  ModelWeights weights;
  builder.finish(&weights);
  return weights;
}

}  // namespace beryl::weights
