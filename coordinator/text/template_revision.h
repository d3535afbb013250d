// Which chat template does a model directory carry? The format is rendered natively, so a template
// that is not known may mean another format: the caller warns about kUnknown.
#pragma once

#include <string>

#include "parallel/base/expected.h"

namespace beryl::text {

enum class TemplateRevision {
  kJuly2026,  // header date 2026-07-09
  kEarlier,   // the one before it, of 2026
  kUnknown,   // a file is there, but it is none of these
  kAbsent,    // no chat_template.jinja
};

struct TemplateCheck {
  TemplateRevision revision = TemplateRevision::kAbsent;
  std::string sha256;  // of the file, hexadecimal; empty if absent
};

// Looks at MODEL_DIR/chat_template.jinja. Fails only where the file exists and cannot be read.
base::Expected<TemplateCheck> check_chat_template(const std::string& model_dir);

// One line for the log, or empty where nothing is to be said.
std::string template_warning(const TemplateCheck& check);

}  // namespace beryl::text
