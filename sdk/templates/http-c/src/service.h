// A request in, a response out: plain C, so that `make test` runs it on your machine.
#ifndef SERVICE_H
#define SERVICE_H

#include <stddef.h>

// Text or bytes of a known length; there need be no zero at their end.
struct text {
  const char *at;
  size_t size;
};

struct request {
  struct text method;
  // Without the query, which is empty where there is none.
  struct text path, query;
  struct text body;
};

struct response {
  int status;
  const char *content_type;
  // Alive until the response is sent: of the program, of the request, or from malloc.
  struct text body;
};

// The whole service.
struct response handle(const struct request *request);

#endif
