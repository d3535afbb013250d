// Everything is checked before it is used, because the encoder trusts the tables: ids index arrays,
// and its splitting is exact only if merges join the texts of their parts.
#include "coordinator/text/tokenizer_loader.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "coordinator/text/utf8.h"

namespace beryl::text {
namespace {

namespace dom = simdjson::dom;

// Ends loading. Caught in load_tokenizer_tables(), never leaves this file.
struct Malformed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) {
  throw Malformed(fmt::format(text, std::forward<Args>(args)...));
}

dom::element member(dom::object object, std::string_view place, std::string_view name) {
  dom::element value;
  if (object.at_key(name).get(value) != simdjson::SUCCESS) fail("{} lacks \"{}\"", place, name);
  return value;
}

dom::object to_object(dom::element value, std::string_view place) {
  dom::object object;
  if (value.get(object) != simdjson::SUCCESS) fail("{} is not an object", place);
  return object;
}

dom::array to_array(dom::element value, std::string_view place) {
  dom::array array;
  if (value.get(array) != simdjson::SUCCESS) fail("{} is not a list", place);
  return array;
}

std::string_view to_string(dom::element value, std::string_view place) {
  std::string_view string;
  if (value.get(string) != simdjson::SUCCESS) fail("{} is not a string", place);
  return string;
}

bool to_bool(dom::element value, std::string_view place) {
  bool boolean = false;
  if (value.get(boolean) != simdjson::SUCCESS) fail("{} is not true or false", place);
  return boolean;
}

int32_t to_id(dom::element value, std::string_view piece) {
  int64_t id = 0;
  if (value.get(id) != simdjson::SUCCESS) fail("id of \"{}\" is not an integer", piece);
  if (id < 0 || id >= kMaxVocabSize) {
    fail("id {} of \"{}\" is out of range (0 to {})", id, piece, kMaxVocabSize - 1);
  }
  return static_cast<int32_t>(id);
}

bool is_null_or_empty(dom::object object, std::string_view name) {
  dom::element value;
  if (object.at_key(name).get(value) != simdjson::SUCCESS || value.is_null()) return true;
  std::string_view string;
  return value.get(string) == simdjson::SUCCESS && string.empty();
}

bool flag_or(dom::object object, std::string_view place, std::string_view name, bool fallback) {
  dom::element value;
  if (object.at_key(name).get(value) != simdjson::SUCCESS || value.is_null()) return fallback;
  return to_bool(value, fmt::format("{}.{}", place, name));
}

bool is_replace(dom::element value, std::string_view from, std::string_view to) {
  std::string_view type, pattern, content;
  return value["type"].get(type) == simdjson::SUCCESS && type == "Replace" &&
         value["pattern"]["String"].get(pattern) == simdjson::SUCCESS && pattern == from &&
         value["content"].get(content) == simdjson::SUCCESS && content == to;
}

bool has_type(dom::element value, std::string_view expected) {
  std::string_view type;
  return value["type"].get(type) == simdjson::SUCCESS && type == expected;
}

// Value of "<0x0A>" as the decoder reads it, or -1.
int byte_value_of(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece.back() != '>') return -1;
  int value = 0;
  for (const char c : piece.substr(3, 2)) {
    const bool digit = c >= '0' && c <= '9';
    const bool letter = (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f');
    if (!digit && !letter) return -1;
    value = value * 16 + (digit ? c - '0' : (c | 0x20) - 'a' + 10);
  }
  return value;
}

class Loader {
 public:
  explicit Loader(dom::object root) : root_(root), tables_(new Tokenizer::Tables) {}

  std::unique_ptr<Tokenizer::Tables> load() {
    check_shapes();
    read_vocab();
    read_added_tokens();
    read_model_options();
    fill_byte_ids();
    read_merges();
    fill_code_points();
    fill_decoded();
    return std::move(tables_);
  }

 private:
  void check_shapes();
  void read_vocab();
  void read_added_tokens();
  void add_token(dom::object token, const std::string& place);
  void read_model_options();
  void fill_byte_ids();
  void read_merges();
  std::pair<std::string_view, std::string_view> read_pair(dom::element merge, size_t rank);
  int32_t merge_part(std::string_view piece, size_t rank) const;
  void fill_code_points();
  void fill_decoded();
  void insert_piece(std::string_view piece, int32_t id);

  dom::object root_;
  std::unique_ptr<Tokenizer::Tables> tables_;
};

// The normaliser, pre-tokeniser and decoder are not interpreted: only the published shapes are
// known to be what the encoder and the Detokenizer do.
void Loader::check_shapes() {
  if (!is_replace(member(root_, "the file", "normalizer"), " ", kSpaceSymbol)) {
    fail("unsupported normalizer (must be Replace \" \" by U+2581)");
  }
  dom::element pre_tokenizer;
  if (root_.at_key("pre_tokenizer").get(pre_tokenizer) == simdjson::SUCCESS &&
      !pre_tokenizer.is_null()) {
    std::string_view pattern;
    bool invert = true;  // a split at spaces never fires: the normaliser left none
    if (!has_type(pre_tokenizer, "Split") ||
        pre_tokenizer["pattern"]["String"].get(pattern) != simdjson::SUCCESS || pattern != " " ||
        pre_tokenizer["invert"].get(invert) != simdjson::SUCCESS || invert) {
      fail("unsupported pre_tokenizer (must be null or Split at \" \")");
    }
  }
  dom::element decoder = member(root_, "the file", "decoder");
  dom::array steps;
  if (!has_type(decoder, "Sequence") || decoder["decoders"].get(steps) != simdjson::SUCCESS ||
      steps.size() != 3 || !is_replace(steps.at(0), kSpaceSymbol, " ") ||
      !has_type(steps.at(1), "ByteFallback") || !has_type(steps.at(2), "Fuse")) {
    fail("unsupported decoder (must be Replace U+2581, ByteFallback, Fuse)");
  }
}

void Loader::insert_piece(std::string_view piece, int32_t id) {
  if (piece.empty()) fail("the vocabulary has an empty piece (id {})", id);
  if (piece.size() > kMaxPieceBytes)
    fail("piece of id {} is longer than {} bytes", id, kMaxPieceBytes);
  if (tables_->pieces.insert(piece, id)) return;
  if (tables_->pieces.find(piece) >= 0) fail("piece \"{}\" comes twice", piece);
  fail("id {} belongs to both \"{}\" and \"{}\"", id, tables_->pieces.text(id), piece);
}

void Loader::read_vocab() {
  dom::object model = to_object(member(root_, "the file", "model"), "model");
  if (!has_type(member(root_, "the file", "model"), "BPE")) fail("model.type is not BPE");
  dom::object vocab = to_object(member(model, "model", "vocab"), "model.vocab");
  dom::array added = to_array(member(root_, "the file", "added_tokens"), "added_tokens");
  size_t num_pieces = 0;  // counted: size() of simdjson stops at 2^24 - 1
  size_t num_bytes = 0;
  for (const auto field : vocab) {
    ++num_pieces;
    num_bytes += field.key.size();
  }
  for (const dom::element token : added) num_pieces += token.is_object() ? 1 : 0;
  if (num_pieces == 0) fail("model.vocab is empty");
  if (num_pieces > static_cast<size_t>(kMaxVocabSize)) fail("more than {} pieces", kMaxVocabSize);
  tables_->pieces.reserve(num_pieces, num_bytes);
  for (const auto field : vocab) {
    insert_piece(field.key, to_id(field.value, field.key));
    tables_->max_piece_bytes = std::max(tables_->max_piece_bytes, field.key.size());
  }
}

void Loader::read_added_tokens() {
  size_t token_idx = 0;
  for (const dom::element token :
       to_array(member(root_, "the file", "added_tokens"), "added_tokens")) {
    const std::string place = fmt::format("added_tokens[{}]", token_idx++);
    add_token(to_object(token, place), place);
  }
  const size_t vocab_size = static_cast<size_t>(tables_->pieces.num_ids());
  tables_->is_added.resize(vocab_size);
  tables_->is_special.resize(vocab_size);
  auto& lengths = tables_->added_lengths;
  std::sort(lengths.begin(), lengths.end(), std::greater<>());
  lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
}

// Flags that would change how text around a token is matched are refused rather than ignored.
void Loader::add_token(dom::object token, const std::string& place) {
  const std::string_view content = to_string(member(token, place, "content"), place + ".content");
  if (content.empty()) fail("{}.content is empty", place);
  const int32_t id = to_id(member(token, place, "id"), content);
  for (const std::string_view name : {"single_word", "lstrip", "rstrip", "normalized"}) {
    if (flag_or(token, place, name, false)) fail("{}.{} = true is not supported", place, name);
  }
  const int32_t known = tables_->pieces.find(content);
  if (known >= 0 && known != id) {
    fail("{} gives \"{}\" the id {}, model.vocab the id {}", place, content, id, known);
  }
  if (known < 0) insert_piece(content, id);
  if (!tables_->added_ids.emplace(content, id).second)
    fail("{} \"{}\" comes twice", place, content);
  const size_t vocab_size = static_cast<size_t>(tables_->pieces.num_ids());
  tables_->is_added.resize(vocab_size);
  tables_->is_special.resize(vocab_size);
  tables_->is_added[id] = true;
  tables_->is_special[id] = flag_or(token, place, "special", false);
  tables_->added_lengths.push_back(content.size());
  tables_->starts_added[static_cast<unsigned char>(content[0])] = true;
}

void Loader::read_model_options() {
  dom::object model = to_object(member(root_, "the file", "model"), "model");
  for (const std::string_view name :
       {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!is_null_or_empty(model, name)) fail("model.{} is not supported", name);
  }
  if (flag_or(model, "model", "ignore_merges", false)) fail("model.ignore_merges is not supported");
  tables_->byte_fallback = flag_or(model, "model", "byte_fallback", false);
  tables_->fuse_unk = flag_or(model, "model", "fuse_unk", false);
  if (!is_null_or_empty(model, "unk_token")) {
    const std::string_view unk = to_string(member(model, "model", "unk_token"), "model.unk_token");
    tables_->unk_id = tables_->pieces.find(unk);
    if (tables_->unk_id < 0) fail("model.unk_token \"{}\" is not in the vocabulary", unk);
  }
}

// With all 256 bytes there is never an unknown code point, so segments are independent.
void Loader::fill_byte_ids() {
  bool complete = tables_->byte_fallback;
  for (int byte = 0; byte < 256; ++byte) {
    tables_->byte_ids[byte] = tables_->pieces.find(fmt::format("<0x{:02X}>", byte));
    complete = complete && tables_->byte_ids[byte] >= 0;
  }
  tables_->can_split = complete;
}

std::pair<std::string_view, std::string_view> Loader::read_pair(dom::element merge, size_t rank) {
  std::string_view joined;
  if (merge.get(joined) == simdjson::SUCCESS) {  // older files: "left right"
    const size_t space = joined.find(' ');
    if (space == std::string_view::npos || joined.find(' ', space + 1) != std::string_view::npos) {
      fail("model.merges[{}] is not a pair of pieces", rank);
    }
    return {joined.substr(0, space), joined.substr(space + 1)};
  }
  dom::array pair;
  std::string_view left, right;
  if (merge.get(pair) != simdjson::SUCCESS || pair.size() != 2 ||
      pair.at(0).get(left) != simdjson::SUCCESS || pair.at(1).get(right) != simdjson::SUCCESS) {
    fail("model.merges[{}] is not a pair of pieces", rank);
  }
  return {left, right};
}

// A merge that takes or makes control, byte or unknown tokens would let plain text become them, and
// the text of its symbols would not be the text of the input.
int32_t Loader::merge_part(std::string_view piece, size_t rank) const {
  const int32_t id = tables_->pieces.find(piece);
  if (id < 0) fail("model.merges[{}] names \"{}\", which is not in the vocabulary", rank, piece);
  if (tables_->is_added[id] || id == tables_->unk_id || byte_value_of(piece) >= 0) {
    fail("model.merges[{}] names \"{}\", which text may not become", rank, piece);
  }
  return id;
}

void Loader::read_merges() {
  dom::object model = to_object(member(root_, "the file", "model"), "model");
  dom::array merges = to_array(member(model, "model", "merges"), "model.merges");
  size_t num_merges = 0;
  for ([[maybe_unused]] const dom::element merge : merges) ++num_merges;
  tables_->merges.reserve(num_merges);
  std::string joined;
  uint32_t rank = 0;
  for (const dom::element merge : merges) {
    const auto [left, right] = read_pair(merge, rank);
    joined.assign(left).append(right);
    const int32_t left_id = merge_part(left, rank);
    const int32_t right_id = merge_part(right, rank);
    tables_->merges.insert(left_id, right_id, {rank, merge_part(joined, rank)});
    tables_->borders.add_text(joined);
    ++rank;
  }
}

// Added tokens are left out: text must never become one.
void Loader::fill_code_points() {
  tables_->code_point_ids.assign(0x110000, -1);
  for (int32_t id = 0; id < tables_->pieces.num_ids(); ++id) {
    const std::string_view text = tables_->pieces.text(id);
    if (text.empty() || tables_->is_added[id]) continue;
    const CodePoint first = code_point_at(text.data());
    if (first.num_bytes == text.size()) tables_->code_point_ids[first.value] = id;
  }
}

void Loader::fill_decoded() {
  const int32_t vocab_size = tables_->pieces.num_ids();
  tables_->byte_values.assign(vocab_size, -1);
  tables_->decoded_begin.reserve(vocab_size + 1);
  for (int32_t id = 0; id < vocab_size; ++id) {
    tables_->decoded_begin.push_back(static_cast<uint32_t>(tables_->decoded.size()));
    const std::string_view text = tables_->pieces.text(id);
    const int byte = byte_value_of(text);
    tables_->byte_values[id] = static_cast<int16_t>(byte);
    if (byte >= 0) {
      tables_->decoded += static_cast<char>(byte);
      continue;
    }
    for (size_t i = 0; i < text.size();) {
      const bool space = text.compare(i, kSpaceSymbol.size(), kSpaceSymbol) == 0;
      tables_->decoded += space ? ' ' : text[i];
      i += space ? kSpaceSymbol.size() : 1;
    }
  }
  tables_->decoded_begin.push_back(static_cast<uint32_t>(tables_->decoded.size()));
  tables_->roundtrips = std::make_unique<std::atomic<Roundtrip>[]>(vocab_size);
}

}  // namespace

base::Expected<std::unique_ptr<Tokenizer::Tables>> load_tokenizer_tables(const std::string& path) {
  const auto problem = [&path](std::string_view what) {
    return base::invalid_argument(path, fmt::format("{}: {}", path, what));
  };
  std::error_code failure;
  const uintmax_t num_bytes = std::filesystem::file_size(path, failure);
  if (failure) return problem(fmt::format("cannot be read: {}", failure.message()));
  if (num_bytes > kMaxTokenizerFileBytes) {
    return problem(
        fmt::format("{} bytes, more than the limit of {}", num_bytes, kMaxTokenizerFileBytes));
  }
  simdjson::padded_string json;
  if (simdjson::padded_string::load(path).get(json) != simdjson::SUCCESS) {
    return problem("cannot be read");
  }
  dom::parser parser;
  dom::element root;
  if (const auto error = parser.parse(json).get(root); error != simdjson::SUCCESS) {
    return problem(fmt::format("not valid JSON: {}", simdjson::error_message(error)));
  }
  try {
    return Loader(to_object(root, "the file")).load();
  } catch (const Malformed& malformed) {
    return problem(malformed.what());
  } catch (const std::exception& exception) {
    return problem(fmt::format("malformed: {}", exception.what()));
  }
}

}  // namespace beryl::text
