#include "coordinator/text/tokenizer.h"

#include <fmt/format.h>

#include <utility>

#include "coordinator/text/bpe.h"
#include "coordinator/text/tokenizer_loader.h"
#include "coordinator/text/tokenizer_tables.h"
#include "coordinator/text/utf8.h"

namespace beryl::text {
namespace {

// Pieces are written with U+2581 for spaces, so a U+2581 of the caller is a space to the model too.
std::string with_space_symbols(std::string_view text) {
  std::string normalized;
  normalized.reserve(text.size() + text.size() / 2);
  size_t begin = 0;
  for (size_t space; (space = text.find(' ', begin)) != std::string_view::npos; begin = space + 1) {
    normalized.append(text, begin, space - begin).append(kSpaceSymbol);
  }
  return normalized.append(text, begin);
}

// The normaliser of the file is this one replacement.
void append_plain(const Tokenizer::Tables& tables, std::string_view text,
                  std::vector<int32_t>& ids) {
  if (!text.empty()) encode_pieces(tables, with_space_symbols(text), ids);
}

base::Status check_input(std::string_view utf8) {
  if (utf8.size() > kMaxEncodeBytes) {
    return base::invalid_argument({}, fmt::format("text of {} bytes is longer than the limit of {}",
                                                  utf8.size(), kMaxEncodeBytes));
  }
  if (!is_valid_utf8(utf8)) return base::invalid_argument({}, "text is not valid UTF-8");
  return base::Status::ok();
}

struct AddedMatch {
  int32_t id = -1;
  size_t num_bytes = 0;
};

// The longest added token that starts at `begin`.
AddedMatch match_added(const Tokenizer::Tables& tables, std::string_view text, size_t begin) {
  if (!tables.starts_added[static_cast<unsigned char>(text[begin])]) return {};
  std::string candidate;
  for (const size_t num_bytes : tables.added_lengths) {
    if (num_bytes > text.size() - begin) continue;
    candidate.assign(text, begin, num_bytes);
    const auto found = tables.added_ids.find(candidate);
    if (found != tables.added_ids.end()) return {found->second, num_bytes};
  }
  return {};
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<Tables> tables) : tables_(std::move(tables)) {}
Tokenizer::~Tokenizer() = default;

base::Expected<std::unique_ptr<Tokenizer>> Tokenizer::load(const std::string& path) {
  auto tables = load_tokenizer_tables(path);
  if (!tables) return std::move(tables).error();
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(*tables)));
}

base::Expected<std::vector<int32_t>> Tokenizer::encode(std::string_view utf8) const {
  if (const auto checked = check_input(utf8); !checked) return checked.error();
  std::vector<int32_t> ids;
  ids.reserve(utf8.size() / 3 + 1);
  append_plain(*tables_, utf8, ids);
  return ids;
}

base::Expected<std::vector<int32_t>> Tokenizer::encode_with_special(std::string_view utf8) const {
  if (const auto checked = check_input(utf8); !checked) return checked.error();
  std::vector<int32_t> ids;
  ids.reserve(utf8.size() / 3 + 1);
  size_t begin = 0;
  for (size_t i = 0; i < utf8.size();) {
    const AddedMatch match = match_added(*tables_, utf8, i);
    if (match.id < 0) {
      ++i;
      continue;
    }
    append_plain(*tables_, utf8.substr(begin, i - begin), ids);
    ids.push_back(match.id);
    i += match.num_bytes;
    begin = i;
  }
  append_plain(*tables_, utf8.substr(begin), ids);
  return ids;
}

int32_t Tokenizer::vocab_size() const noexcept {
  return tables_->pieces.num_ids();
}

bool Tokenizer::exists(int32_t id) const noexcept {
  return !token_text(id).empty();
}

std::string_view Tokenizer::token_text(int32_t id) const noexcept {
  if (id < 0 || id >= vocab_size()) return {};
  return tables_->pieces.text(id);
}

std::string_view Tokenizer::token_bytes(int32_t id) const noexcept {
  if (id < 0 || id >= vocab_size()) return {};
  const uint32_t begin = tables_->decoded_begin[id];
  return std::string_view(tables_->decoded).substr(begin, tables_->decoded_begin[id + 1] - begin);
}

bool Tokenizer::is_byte_token(int32_t id) const noexcept {
  return id >= 0 && id < vocab_size() && tables_->byte_values[id] >= 0;
}

bool Tokenizer::is_special(int32_t id) const noexcept {
  return id >= 0 && id < vocab_size() && tables_->is_special[id];
}

std::optional<int32_t> Tokenizer::special_id(std::string_view text) const {
  const auto found = tables_->added_ids.find(std::string(text));
  if (found == tables_->added_ids.end()) return std::nullopt;
  return found->second;
}

}  // namespace beryl::text
