// Each function mirrors one macro of the chat template, its field order and its omissions
// (defaults, ranges, formats and enums of anything but strings are never printed).
#include "coordinator/text/tool_format.h"

#include <algorithm>
#include <string>

#include "coordinator/text/utf8.h"

namespace beryl::text {
namespace {

using Kind = JsonValue::Kind;

bool is_standard_key(std::string_view key) {
  return key == "description" || key == "type" || key == "properties" || key == "required" ||
         key == "nullable";
}

bool has(const JsonValue& value, std::string_view key) {
  const JsonValue* const member = value.find(key);
  return member != nullptr && member->is_truthy();
}

std::string upper_type(const JsonValue& value) {
  const JsonValue* const type = value.find("type");
  return type == nullptr ? std::string() : to_upper_ascii(type->text);
}

}  // namespace

void ToolFormat::write_quoted(std::string_view text) {
  writer_.control(control_.quote);
  writer_.text(text);
  writer_.control(control_.quote);
}

void ToolFormat::write_string_list(const JsonValue& list) {
  writer_.text("[");
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) writer_.text(",");
    write_quoted(list.items[i].text);
  }
  writer_.text("]");
}

void ToolFormat::write_argument(const JsonValue& value, Keys keys) {
  switch (value.kind) {
    case Kind::kNull:
      return writer_.text(null_text_);
    case Kind::kString:
      return write_quoted(value.text);
    case Kind::kBool:
      return writer_.text(value.boolean ? "true" : "false");
    case Kind::kNumber:
      return writer_.text(value.text);
    case Kind::kArray:
      writer_.text("[");
      for (size_t i = 0; i < value.items.size(); ++i) {
        if (i > 0) writer_.text(",");
        write_argument(value.items[i], keys);
      }
      return writer_.text("]");
    case Kind::kObject:
      break;
  }
  writer_.text("{");
  for (size_t i = 0; i < value.members.size(); ++i) {
    const auto& [key, member] = value.members[i];
    if (i > 0) writer_.text(",");
    if (keys == Keys::kQuoted) {
      write_quoted(key);
    } else {
      writer_.text(key);
    }
    writer_.text(":");
    write_argument(member, keys);
  }
  writer_.text("}");
}

// A comma before every field of a property but the first.
void ToolFormat::separate() {
  if (needs_comma_) writer_.text(",");
  needs_comma_ = true;
}

// NOTE: properties nest, and each starts with no comma pending; the one around goes on with one.
void ToolFormat::write_properties(const JsonValue& properties, bool skip_standard_keys) {
  bool first = true;
  for (const auto& [key, value] : properties.members) {
    if (skip_standard_keys && is_standard_key(key)) continue;
    if (!first) writer_.text(",");
    first = false;
    writer_.text(key);
    writer_.text(":{");
    needs_comma_ = false;
    write_property(value);
    writer_.text("}");
    needs_comma_ = true;
  }
}

// `value` may be no object where the members of a bare object are printed as properties: only the
// (empty) type is left then.
void ToolFormat::write_property(const JsonValue& value) {
  const std::string type = upper_type(value);
  if (has(value, "description")) {
    separate();
    writer_.text("description:");
    write_quoted(value.find("description")->text);
  }
  if (type == "STRING" && has(value, "enum")) {
    separate();
    writer_.text("enum:");
    write_argument(*value.find("enum"), Keys::kQuoted);
  }
  if (type == "ARRAY" && has(value, "items") && value.find("items")->is(Kind::kObject)) {
    separate();
    write_items(*value.find("items"));
  }
  if (has(value, "nullable")) {
    separate();
    writer_.text("nullable:true");
  }
  if (type == "OBJECT") write_object_fields(value);
  separate();
  writer_.text("type:");
  write_quoted(type);
}

void ToolFormat::write_object_fields(const JsonValue& value) {
  separate();
  writer_.text("properties:{");
  const JsonValue* const properties = value.find("properties");
  const bool bare = properties == nullptr;
  write_properties(bare ? value : *properties, bare);
  writer_.text("}");
  needs_comma_ = true;
  if (has(value, "required")) {
    separate();
    writer_.text("required:");
    write_string_list(*value.find("required"));
  }
}

// Members without special treatment are dumped; null ones are left out.
void ToolFormat::write_items(const JsonValue& items) {
  writer_.text("items:{");
  bool first = true;
  for (const auto& [key, value] : items.members) {
    if (value.is(Kind::kNull)) continue;
    if (!first) writer_.text(",");
    first = false;
    write_items_member(key, value);
  }
  writer_.text("}");
  needs_comma_ = true;
}

void ToolFormat::write_items_member(std::string_view key, const JsonValue& value) {
  writer_.text(key);
  writer_.text(":");
  if (key == "properties") {
    writer_.text("{");
    write_properties(value, false);
    writer_.text("}");
  } else if (key == "required") {
    write_string_list(value);
  } else if (key == "type") {
    JsonValue upper = value;
    upper.text = to_upper_ascii(value.text);
    for (JsonValue& item : upper.items) item.text = to_upper_ascii(item.text);
    write_argument(upper, Keys::kQuoted);
  } else {
    write_argument(value, Keys::kQuoted);
  }
}

void ToolFormat::write_declaration(std::string_view name, std::string_view description,
                                   const JsonValue& parameters) {
  writer_.control(control_.tool_open);
  writer_.text("declaration:");
  writer_.text(name);
  writer_.text("{description:");
  write_quoted(description);
  if (parameters.is_truthy()) {
    writer_.text(",parameters:{");
    if (has(parameters, "properties")) {
      writer_.text("properties:{");
      write_properties(*parameters.find("properties"), false);
      writer_.text("},");
    }
    if (has(parameters, "required")) {
      writer_.text("required:");
      write_string_list(*parameters.find("required"));
      writer_.text(",");
    }
    writer_.text("type:");
    write_quoted(upper_type(parameters));
    writer_.text("}");
  }
  writer_.text("}");
  writer_.control(control_.tool_close);
}

void ToolFormat::write_call(std::string_view name, const JsonValue& arguments) {
  writer_.control(control_.tool_call_open);
  writer_.text("call:");
  writer_.text(name);
  if (arguments.is(Kind::kObject)) {
    write_argument(arguments, Keys::kBare);
  } else {
    writer_.text("{}");
  }
  writer_.control(control_.tool_call_close);
}

void ToolFormat::write_response(std::string_view name, const JsonValue& result) {
  writer_.control(control_.tool_response_open);
  writer_.text("response:");
  writer_.text(name);
  writer_.text("{value:");
  write_argument(result, Keys::kBare);
  writer_.text("}");
  writer_.control(control_.tool_response_close);
}

}  // namespace beryl::text
