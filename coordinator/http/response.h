// A whole answer, and how answers look on the wire.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace beryl::http {

using HeaderFields = std::vector<std::pair<std::string, std::string>>;

struct Response {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  HeaderFields headers;
  bool close = false;     // end the connection afterwards
  bool streamed = false;  // the handler has started a stream; all else is ignored
};

std::string_view status_text(int status);

// What the connection adds to each answer.
struct HeadContext {
  std::string_view request_id;
  std::string_view date;
  bool keep_alive = true;
  int minor_version = 1;
};

// The head of `response`, with the length of its body.
void append_head(const Response& response, const HeadContext& context, std::string& out);

// The head of a stream of server-sent events. HTTP/1.0 has no chunks: there the end of the
// connection ends the stream.
void append_stream_head(const HeaderFields& headers, const HeadContext& context, std::string& out);

}  // namespace beryl::http
