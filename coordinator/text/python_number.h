// Numbers as Python prints them.
#pragma once

#include <string>
#include <string_view>

namespace beryl::text {

// Is this a number of the JSON grammar?
bool is_json_number(std::string_view token);

// A JSON number as Python prints it after json.loads(): -0 is 0, 1E2 is 100.0, 1e-7 is 1e-07, 1e999
// is inf. Empty if `token` is not a JSON number.
std::string python_number(std::string_view token);

// repr() of a float.
std::string python_float(double value);

}  // namespace beryl::text
