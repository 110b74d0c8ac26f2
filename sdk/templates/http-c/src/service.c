// What {{name}} answers.
#include "service.h"

#include <string.h>

static int is(struct text text, const char *expected) {
  return text.size == strlen(expected) && memcmp(text.at, expected, text.size) == 0;
}

static struct response plain(int status, const char *body) {
  return (struct response){status, "text/plain; charset=utf-8", {body, strlen(body)}};
}

struct response handle(const struct request *request) {
  if (is(request->path, "/")) {
    if (is(request->method, "GET") || is(request->method, "HEAD"))
      return plain(200, "Hello from {{name}}\n");
    return plain(405, "only GET and HEAD\n");
  }
  if (is(request->path, "/echo")) {
    if (is(request->method, "POST"))
      return (struct response){200, "application/octet-stream", request->body};
    return plain(405, "only POST\n");
  }
  return plain(404, "nothing here\n");
}
