// ForwardPass: what the step executor needs of a model. The decoder in production, a table of
// logits in tests of the executor.
#pragma once

#include "kernels/tensor.h"
#include "parallel/base/expected.h"
#include "worker/model/decoder.h"

namespace beryl::engine {

class ForwardPass {
 public:
  virtual ~ForwardPass() = default;

  // Collective; fails only when the group's epoch has ended.
  virtual base::Status forward(const model::DecoderBatch& batch) = 0;
  // [end - begin, vocab_size] of the last batch's logits_rows; may be changed, valid until the next
  // call. At most max_logits_rows() at a time.
  virtual kernels::TensorView logits(int begin, int end) = 0;
  virtual int max_logits_rows() const = 0;
};

class DecoderPass final : public ForwardPass {
 public:
  explicit DecoderPass(model::Decoder& decoder) : decoder_(decoder) {}

  base::Status forward(const model::DecoderBatch& batch) override {
    return decoder_.forward(batch);
  }
  kernels::TensorView logits(int begin, int end) override { return decoder_.logits(begin, end); }
  int max_logits_rows() const override { return decoder_.limits().max_logits_rows; }

 private:
  model::Decoder& decoder_;
};

}  // namespace beryl::engine
