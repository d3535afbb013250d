#include "coordinator/text/template_revision.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <system_error>

namespace beryl::text {
namespace {

constexpr uintmax_t kMaxTemplateBytes = uintmax_t{1} << 20;

struct KnownTemplate {
  std::string_view sha256;
  TemplateRevision revision;
};

// Hashes only: the templates themselves are not part of this project.
constexpr KnownTemplate kKnownTemplates[] = {
    {"ae53464bf3be25802b3a5b37def7fd89667067d7577049b3b2d74c4d8de4c6d4",
     TemplateRevision::kJuly2026},
    {"e2562b212fe4d64f4090a64a8695260278569af22ecacf2bd956a88ebb811f3e",
     TemplateRevision::kEarlier},
};

std::string sha256_of(std::string_view bytes) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int digest_bytes = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest, &digest_bytes, EVP_sha256(), nullptr) != 1) {
    return {};
  }
  std::string hex;
  for (unsigned int i = 0; i < digest_bytes; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

}  // namespace

base::Expected<TemplateCheck> check_chat_template(const std::string& model_dir) {
  const std::string path = (std::filesystem::path(model_dir) / "chat_template.jinja").string();
  std::error_code failure;
  if (!std::filesystem::exists(path, failure)) return TemplateCheck{};
  const uintmax_t num_bytes = std::filesystem::file_size(path, failure);
  if (failure) {
    return base::invalid_argument(path,
                                  fmt::format("{}: cannot be read: {}", path, failure.message()));
  }
  if (num_bytes > kMaxTemplateBytes) {
    return base::invalid_argument(path, fmt::format("{}: {} bytes, more than the limit of {}", path,
                                                    num_bytes, kMaxTemplateBytes));
  }
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file) return base::invalid_argument(path, fmt::format("{}: cannot be read", path));
  TemplateCheck check{TemplateRevision::kUnknown, sha256_of(bytes)};
  for (const KnownTemplate& known : kKnownTemplates) {
    if (check.sha256 == known.sha256) check.revision = known.revision;
  }
  return check;
}

std::string template_warning(const TemplateCheck& check) {
  if (check.revision != TemplateRevision::kUnknown) return {};
  return fmt::format(
      "chat_template.jinja (sha256 {}) is not a revision that Beryl knows; conversations are "
      "written "
      "in the format of 2026-07-09. If the model was trained on another format, answers may "
      "suffer.",
      check.sha256);
}

}  // namespace beryl::text
