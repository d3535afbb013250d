// How Gemma 4 writes tool declarations, calls and responses. Strings stand between quote tokens,
// raw and without escapes.
#pragma once

#include <string_view>

#include "coordinator/text/control_tokens.h"
#include "coordinator/text/json_value.h"
#include "coordinator/text/prompt_writer.h"

namespace beryl::text {

class ToolFormat {
 public:
  // `null_text` is how null is printed: "null", in the earlier template "None".
  ToolFormat(PromptWriter& writer, const ControlTokens& control, std::string_view null_text)
      : writer_(writer), control_(control), null_text_(null_text) {}

  // `parameters`: normalised schema, or kNull.
  void write_declaration(std::string_view name, std::string_view description,
                         const JsonValue& parameters);
  // `arguments`: an object, or kNull.
  void write_call(std::string_view name, const JsonValue& arguments);
  // `result`: kString or kNull.
  void write_response(std::string_view name, const JsonValue& result);

 private:
  enum class Keys { kBare, kQuoted };

  void write_quoted(std::string_view text);
  void write_string_list(const JsonValue& list);
  void write_argument(const JsonValue& value, Keys keys);
  void write_properties(const JsonValue& properties, bool skip_standard_keys);
  void write_property(const JsonValue& value);
  void write_object_fields(const JsonValue& value);
  void write_items(const JsonValue& items);
  void write_items_member(std::string_view key, const JsonValue& value);
  void separate();

  PromptWriter& writer_;
  const ControlTokens& control_;
  std::string_view null_text_;
  bool needs_comma_ = false;  // before the next field of the property being written
};

}  // namespace beryl::text
