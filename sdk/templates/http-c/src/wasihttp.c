// Between wasi:http 0.2 and `handle`, by the canonical ABI: handles are numbers, and a result that is
// more than one number is written where the last parameter points. The node makes an instance for a
// request, calls it once and drops it, so what is allocated here is never freed.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "service.h"

// A longer body is answered with 413.
#define MOST_BODY_BYTES (1u << 20)
// What one read asks for, and what one write may hold.
#define READ_BYTES (64u << 10)
#define WRITE_BYTES 4096u

#define OF(module, name) __attribute__((import_module(module), import_name(name)))
#define HTTP(name) OF("wasi:http/types@0.2.0", name)
#define STREAMS(name) OF("wasi:io/streams@0.2.0", name)

// An optional text; of a method: which one, and the text of one that has no number.
struct choice {
  uint8_t which;
  struct text value;
};

// A result whose value is a handle.
struct either {
  uint8_t is_error;
  uint32_t handle;
};

// A result of wasi:io/streams.
struct part {
  uint8_t is_error;
  struct text bytes;
};

HTTP("[method]incoming-request.method") void request_method(uint32_t request, struct choice *to);
HTTP("[method]incoming-request.path-with-query")
void request_path(uint32_t request, struct choice *to);
HTTP("[method]incoming-request.consume") void request_consume(uint32_t request, struct either *to);
HTTP("[method]incoming-body.stream") void body_stream(uint32_t body, struct either *to);
HTTP("[constructor]fields") uint32_t new_fields(void);
HTTP("[method]fields.append")
void fields_append(uint32_t fields, const char *name, size_t name_size, const char *value,
                   size_t value_size, uint8_t refused[2]);
HTTP("[constructor]outgoing-response") uint32_t new_response(uint32_t fields);
HTTP("[method]outgoing-response.set-status-code")
uint32_t response_status(uint32_t response, uint32_t status);
HTTP("[method]outgoing-response.body") void response_body(uint32_t response, struct either *to);
HTTP("[method]outgoing-body.write") void body_write(uint32_t body, struct either *to);
// `to` has room for an error code, which is aligned as its largest number.
HTTP("[static]outgoing-body.finish")
void body_finish(uint32_t body, uint32_t has_trailers, uint32_t trailers, uint64_t to[5]);
// The response, or an error code with what it may hold.
HTTP("[static]response-outparam.set")
void outparam_set(uint32_t outparam, uint32_t is_error, uint32_t response, uint32_t a, uint64_t b,
                  uint32_t c, uint32_t d, uint32_t e, uint32_t f);
STREAMS("[method]input-stream.blocking-read")
void stream_read(uint32_t stream, uint64_t most, struct part *to);
STREAMS("[method]output-stream.blocking-write-and-flush")
void stream_write(uint32_t stream, const char *from, size_t size, struct part *to);
STREAMS("[resource-drop]output-stream") void drop_output(uint32_t stream);

// The host asks for room by this.
__attribute__((export_name("cabi_realloc"))) void *cabi_realloc(void *old, size_t old_size,
                                                                size_t align, size_t size) {
  (void)old_size, (void)align;
  void *room = realloc(old, size);
  if (room == NULL && size > 0) abort();
  return room;
}

static struct text method_of(uint32_t incoming) {
  static const char *const known[] = {"GET",     "HEAD",    "POST",  "PUT",  "DELETE",
                                      "CONNECT", "OPTIONS", "TRACE", "PATCH"};
  struct choice found;
  request_method(incoming, &found);
  if (found.which >= sizeof known / sizeof *known) return found.value;
  return (struct text){known[found.which], strlen(known[found.which])};
}

static void read_target(uint32_t incoming, struct request *request) {
  struct choice found;
  request_path(incoming, &found);
  if (found.which == 0) return;
  const char *mark = memchr(found.value.at, '?', found.value.size);
  size_t path = mark ? (size_t)(mark - found.value.at) : found.value.size;
  request->path = (struct text){found.value.at, path};
  if (mark) request->query = (struct text){mark + 1, found.value.size - path - 1};
}

// The whole body; 0: it is too long.
static int read_body(uint32_t incoming, struct text *body) {
  struct either consumed, stream;
  request_consume(incoming, &consumed);
  if (consumed.is_error) return 1;
  body_stream(consumed.handle, &stream);
  if (stream.is_error) return 1;
  char *all = NULL;
  struct part part;
  for (stream_read(stream.handle, READ_BYTES, &part); !part.is_error;
       stream_read(stream.handle, READ_BYTES, &part)) {
    if (body->size + part.bytes.size > MOST_BODY_BYTES) return 0;
    if (part.bytes.size == 0) continue;
    all = cabi_realloc(all, body->size, 1, body->size + part.bytes.size);
    memcpy(all + body->size, part.bytes.at, part.bytes.size);
    free((void *)part.bytes.at);
    body->size += part.bytes.size;
  }
  body->at = all;
  return 1;
}

static void answer(uint32_t outparam, const struct response *response) {
  static const char content_type[] = "content-type";
  uint8_t refused[2];
  uint32_t fields = new_fields();
  fields_append(fields, content_type, strlen(content_type), response->content_type,
                strlen(response->content_type), refused);
  uint32_t outgoing = new_response(fields);
  response_status(outgoing, (uint32_t)response->status);
  struct either body, stream;
  response_body(outgoing, &body);
  body_write(body.handle, &stream);
  outparam_set(outparam, 0, outgoing, 0, 0, 0, 0, 0, 0);
  struct part written = {0};
  // An error: the client is gone, and nobody reads the rest.
  for (size_t at = 0; at < response->body.size && !written.is_error; at += WRITE_BYTES) {
    size_t rest = response->body.size - at;
    stream_write(stream.handle, response->body.at + at, rest < WRITE_BYTES ? rest : WRITE_BYTES,
                 &written);
  }
  drop_output(stream.handle);
  uint64_t finished[5];
  body_finish(body.handle, 0, 0, finished);
}

__attribute__((export_name("wasi:http/incoming-handler@0.2.0#handle"))) void serve(
    uint32_t incoming, uint32_t outparam) {
  struct request request = {method_of(incoming), {"", 0}, {"", 0}, {"", 0}};
  read_target(incoming, &request);
  struct response response = {413, "text/plain", {"the body is too long\n", 21}};
  if (read_body(incoming, &request.body)) response = handle(&request);
  answer(outparam, &response);
  // One line to the pod's log.
  printf("%.*s %.*s %d\n", (int)request.method.size, request.method.at, (int)request.path.size,
         request.path.at, response.status);
  fflush(stdout);
}
