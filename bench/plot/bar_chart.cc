#include "bench/plot/bar_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace beryl::bench {
namespace {

// Pixels.
constexpr int kWidth = 960;
constexpr int kNameWidth = 380;
constexpr int kBarWidth = 360;  // of a full bar; notes follow
constexpr int kRow = 18;
constexpr int kBarHeight = 12;
constexpr int kMargin = 14;
constexpr int kTitle = 30;

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

double scale_of(const Panel& panel) {
  if (panel.full_scale > 0) return panel.full_scale;
  double largest = 0;
  for (const Bar& bar : panel.bars) {
    if (std::isfinite(bar.value)) largest = std::max(largest, bar.value);
  }
  return largest > 0 ? largest : 1;
}

std::string label(int x, int y, const char* style, const std::string& text) {
  return fmt::format("<text x=\"{}\" y=\"{}\" {}>{}</text>\n", x, y, style, escaped(text));
}

std::string draw_bar(const Bar& bar, const Panel& panel, double scale, int y) {
  const double share = std::isfinite(bar.value) ? std::clamp(bar.value / scale, 0.0, 1.0) : 0;
  const int text_y = y + kBarHeight - 2;
  std::string out = label(kNameWidth - 8, text_y, "text-anchor=\"end\" class=\"name\"", bar.name);
  out += fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" class=\"back\"/>"
      "<rect x=\"{}\" y=\"{}\" width=\"{:.1f}\" height=\"{}\" class=\"bar\"/>\n",
      kNameWidth, y, kBarWidth, kBarHeight, kNameWidth, y, share * kBarWidth, kBarHeight);
  std::string value = fmt::format("{:.{}f} {}", bar.value, bar.value < 10 ? 2 : 0, panel.unit);
  if (!bar.note.empty()) value += "  " + bar.note;
  return out + label(kNameWidth + kBarWidth + 8, text_y, "class=\"value\"", value);
}

}  // namespace

std::string bar_chart_svg(const std::string& title, const std::vector<Panel>& panels) {
  int height = kTitle + 2 * kMargin;
  for (const Panel& panel : panels) {
    height += kTitle + kRow * static_cast<int>(panel.bars.size()) + kMargin;
  }
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" "
      "viewBox=\"0 0 {0} {1}\" font-family=\"sans-serif\" font-size=\"11\">\n"
      "<style>.back{{fill:#eee}}.bar{{fill:#2a7f62}}.name,.value{{fill:#222}}"
      ".title{{font-size:15px;font-weight:bold}}.panel{{font-size:12px;font-weight:bold}}</style>\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"#fff\"/>\n",
      kWidth, height);
  int y = kMargin + kTitle / 2;
  out += label(kMargin, y, "class=\"title\"", title);
  y += kTitle / 2;
  for (const Panel& panel : panels) {
    out += label(kMargin, y + kTitle / 2 + 2, "class=\"panel\"", panel.title);
    y += kTitle;
    const double scale = scale_of(panel);
    for (const Bar& bar : panel.bars) {
      out += draw_bar(bar, panel, scale, y);
      y += kRow;
    }
    y += kMargin;
  }
  return out + "</svg>\n";
}

}  // namespace beryl::bench
