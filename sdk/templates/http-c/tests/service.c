#include "../src/service.h"

#include <stdio.h>
#include <string.h>

static int failed = 0;

static struct text text(const char *of) { return (struct text){of, strlen(of)}; }

static void check(const char *method, const char *path, const char *body, int status,
                  const char *expected) {
  struct request request = {text(method), text(path), text(""), text(body)};
  struct response response = handle(&request);
  if (response.status == status && response.body.size == strlen(expected) &&
      memcmp(response.body.at, expected, response.body.size) == 0)
    return;
  failed = 1;
  printf("%s %s: %d %.*s\n", method, path, response.status, (int)response.body.size,
         response.body.at);
}

int main(void) {
  check("GET", "/", "", 200, "Hello from {{name}}\n");
  check("POST", "/echo", "there and back", 200, "there and back");
  check("PUT", "/echo", "", 405, "only POST\n");
  check("GET", "/nowhere", "", 404, "nothing here\n");
  return failed;
}
