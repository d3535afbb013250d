#include "coordinator/text/schema_normalizer.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "coordinator/text/utf8.h"

namespace beryl::text {
namespace {

using Kind = JsonValue::Kind;

// Never printed as properties of an object that has no `properties`.
constexpr std::array<std::string_view, 5> kStandardKeys = {"description", "type", "properties",
                                                           "required", "nullable"};

// What the template prints of a property, and so what is worth taking from an alternative.
constexpr std::array<std::string_view, 7> kAdoptedKeys = {
    "description", "enum", "items", "nullable", "properties", "required", "type"};

void normalize_property(JsonValue& value);

bool is_null_type(const JsonValue& type) {
  return type.is(Kind::kString) && to_upper_ascii(type.text) == "NULL";
}

void erase_unless(JsonValue& value, std::string_view key, Kind kind) {
  const JsonValue* const member = value.find(key);
  if (member != nullptr && !member->is(kind)) value.erase(key);
}

void keep_strings(JsonValue& list) {
  std::erase_if(list.items, [](const JsonValue& item) { return !item.is(Kind::kString); });
}

void normalize_required(JsonValue& value) {
  erase_unless(value, "required", Kind::kArray);
  if (JsonValue* const required = value.find("required")) keep_strings(*required);
}

// ["string", "null"]: the first type that is not null, and nullable.
void unite_type_list(JsonValue& value) {
  JsonValue* const type = value.find("type");
  if (type == nullptr || !type->is(Kind::kArray)) return;
  JsonValue list = std::move(*type);
  value.erase("type");
  keep_strings(list);
  for (const JsonValue& item : list.items) {
    if (is_null_type(item)) {
      value.set("nullable", JsonValue::boolean_of(true));
    } else if (value.find("type") == nullptr) {
      value.set("type", item);
    }
  }
}

// anyOf and the like are not printed: the first alternative that is not null speaks for all.
void adopt_alternative(JsonValue& value, std::string_view key) {
  JsonValue* const list = value.find(key);
  if (list == nullptr || !list->is(Kind::kArray)) return;
  const JsonValue alternatives = std::move(*list);
  list->kind = Kind::kNull;
  const JsonValue* chosen = nullptr;
  for (const JsonValue& alternative : alternatives.items) {
    const JsonValue* const type = alternative.find("type");
    if (type != nullptr && is_null_type(*type)) {
      value.set("nullable", JsonValue::boolean_of(true));
    } else if (chosen == nullptr && alternative.is(Kind::kObject)) {
      chosen = &alternative;
    }
  }
  if (chosen == nullptr) return;
  for (const std::string_view name : kAdoptedKeys) {
    const JsonValue* const member = chosen->find(name);
    if (member != nullptr && value.find(name) == nullptr) value.set(name, *member);
  }
}

// The order of the sources is from the most to the least telling.
void infer_type(JsonValue& value) {
  for (const std::string_view key : {"anyOf", "oneOf", "allOf"}) {
    if (value.find("type") != nullptr) return;
    adopt_alternative(value, key);
    unite_type_list(value);
    erase_unless(value, "type", Kind::kString);
  }
  if (value.find("type") != nullptr) return;
  const JsonValue* const choices = value.find("enum");
  const JsonValue* const constant = value.find("const");
  const auto is_string = [](const JsonValue& item) { return item.is(Kind::kString); };
  if (value.find("properties") != nullptr) {
    value.set("type", JsonValue::string("object"));
  } else if (value.find("items") != nullptr) {
    value.set("type", JsonValue::string("array"));
  } else if ((choices != nullptr && !choices->items.empty() &&
              std::all_of(choices->items.begin(), choices->items.end(), is_string)) ||
             (constant != nullptr && is_string(*constant))) {
    value.set("type", JsonValue::string("string"));
  }
}

// The template prints `items` member by member, with its own treatment of type lists.
void normalize_items(JsonValue& items) {
  if (JsonValue* const type = items.find("type")) {
    if (type->is(Kind::kArray)) {
      keep_strings(*type);
    } else if (!type->is(Kind::kString)) {
      items.erase("type");
    }
  }
  normalize_required(items);
  if (JsonValue* const properties = items.find("properties")) {
    for (auto& [name, property] : properties->members) normalize_property(property);
  }
}

void normalize_property(JsonValue& value) {
  if (!value.is(Kind::kObject)) value = JsonValue::object();
  erase_unless(value, "description", Kind::kString);
  erase_unless(value, "properties", Kind::kObject);
  unite_type_list(value);
  erase_unless(value, "type", Kind::kString);
  infer_type(value);
  erase_unless(value, "description", Kind::kString);
  erase_unless(value, "properties", Kind::kObject);
  normalize_required(value);
  JsonValue* const items = value.find("items");
  if (items != nullptr && items->is(Kind::kObject)) normalize_items(*items);
  if (JsonValue* const properties = value.find("properties")) {
    for (auto& [name, property] : properties->members) normalize_property(property);
    return;
  }
  // Without `properties` the template prints the other members of an object as if they were some.
  const JsonValue* const type = value.find("type");
  if (type == nullptr || to_upper_ascii(type->text) != "OBJECT") return;
  for (auto& [name, member] : value.members) {
    const bool standard =
        std::find(kStandardKeys.begin(), kStandardKeys.end(), name) != kStandardKeys.end();
    if (!standard && member.is(Kind::kObject)) normalize_property(member);
  }
}

}  // namespace

void normalize_parameters(JsonValue& parameters) {
  if (!parameters.is(Kind::kObject) || parameters.members.empty()) return;
  erase_unless(parameters, "type", Kind::kString);
  const JsonValue* const type = parameters.find("type");
  if (type == nullptr || type->text.empty()) parameters.set("type", JsonValue::string("object"));
  erase_unless(parameters, "properties", Kind::kObject);
  normalize_required(parameters);
  if (JsonValue* const properties = parameters.find("properties")) {
    for (auto& [name, property] : properties->members) normalize_property(property);
  }
}

}  // namespace beryl::text
