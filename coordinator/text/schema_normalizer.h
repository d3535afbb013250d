// Makes JSON schemas of tool parameters fit what the chat template can print. A schema that the
// template prints well is left as it is.
#pragma once

#include "coordinator/text/json_value.h"

namespace beryl::text {

// `parameters` is the object of a tool declaration. Afterwards: it has a type; types are strings
// (a list such as ["string", "null"] becomes its first type and `nullable`; a missing one is taken
// from anyOf, oneOf, allOf, enum, const, properties or items where they tell); descriptions are
// strings; `required` lists strings; `properties` hold objects.
void normalize_parameters(JsonValue& parameters);

}  // namespace beryl::text
