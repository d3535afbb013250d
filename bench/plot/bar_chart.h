// Bar charts as self-contained SVG: panels below each other, each with its own unit and scale.
#pragma once

#include <string>
#include <vector>

namespace beryl::bench {

struct Bar {
  std::string name;
  double value = 0;
  std::string note;  // beside the value
};

struct Panel {
  std::string title;
  std::string unit;
  double full_scale = 0;  // 0: the largest value
  std::vector<Bar> bars;
};

std::string bar_chart_svg(const std::string& title, const std::vector<Panel>& panels);

}  // namespace beryl::bench
