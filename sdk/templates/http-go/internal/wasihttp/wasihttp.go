//go:build wasip1

// Package wasihttp serves one request of wasi:http 0.2 with an http.Handler. The node makes an
// instance for a request, calls `handle` and drops it.
package wasihttp

import (
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// Handler answers; it is set before the first request.
var Handler http.Handler = http.NotFoundHandler()

const (
	readBytes = 64 << 10
	// More than a request's head takes: nodes let it have 64 KiB, and here some of it comes twice.
	headBytes = 192 << 10
	// What one write of wasi:io may hold.
	writeBytes = 4096
)

//go:wasmexport wasi:http/incoming-handler@0.2.0#handle
func handle(incoming, outparam uint32) {
	request := readRequest(incoming)
	response := &response{outparam: outparam, headers: http.Header{}, silent: request.Method == "HEAD"}
	Handler.ServeHTTP(response, request)
	request.Body.Close()
	dropRequest(incoming)
	response.finish()
}

func readRequest(incoming uint32) *http.Request {
	reserve(headBytes)
	target := pathWithQuery(incoming)
	address, err := url.ParseRequestURI(target)
	if err != nil {
		address = &url.URL{Path: target}
	}
	request := &http.Request{
		Method:     method(incoming),
		URL:        address,
		RequestURI: target,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     requestHeaders(incoming),
		Host:       authority(incoming),
		Body:       http.NoBody,
	}
	request.ContentLength = -1
	if length, err := strconv.ParseInt(request.Header.Get("Content-Length"), 10, 64); err == nil {
		request.ContentLength = length
	}
	if body, ok := consume(incoming); ok {
		request.Body = body
	}
	return request
}

// body is the request's, as it comes.
type body struct {
	body, stream uint32
	rest         []byte
	closed       bool
}

func (b *body) Read(into []byte) (int, error) {
	if len(b.rest) == 0 {
		if b.closed {
			return 0, io.EOF
		}
		part, err := blockingRead(b.stream, readBytes)
		if err != nil {
			return 0, err
		}
		b.rest = part
	}
	n := copy(into, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *body) Close() error {
	if !b.closed {
		b.closed = true
		dropInputStream(b.stream)
		dropIncomingBody(b.body)
	}
	return nil
}

// response sends status and headers with the first byte of its body.
type response struct {
	outparam     uint32
	headers      http.Header
	body, stream uint32
	sent, silent bool
	err          error
}

func (r *response) Header() http.Header { return r.headers }

func (r *response) WriteHeader(status int) {
	if r.sent || status < 200 {
		return
	}
	r.sent = true
	r.body, r.stream, r.err = sendHead(r.outparam, status, r.headers)
}

func (r *response) Write(bytes []byte) (int, error) {
	if !r.sent {
		if r.headers.Get("Content-Type") == "" {
			r.headers.Set("Content-Type", http.DetectContentType(bytes))
		}
		r.WriteHeader(http.StatusOK)
	}
	written := 0
	for r.err == nil && !r.silent && written < len(bytes) {
		part := bytes[written:min(len(bytes), written+writeBytes)]
		if r.err = blockingWrite(r.stream, part); r.err == nil {
			written += len(part)
		}
	}
	if r.silent {
		written = len(bytes)
	}
	return written, r.err
}

// Flush has nothing to do: every write is sent at once.
func (r *response) Flush() {}

func (r *response) finish() {
	r.WriteHeader(http.StatusOK)
	if r.body != 0 {
		dropOutputStream(r.stream)
		finishBody(r.body)
	}
}
