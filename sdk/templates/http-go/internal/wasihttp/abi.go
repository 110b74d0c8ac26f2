//go:build wasip1

package wasihttp

// The canonical ABI of what is used of wasi:http and wasi:io, by hand: handles are numbers, and a
// result that is more than one number is written where the last parameter points.

import (
	"errors"
	"io"
	"net/http"
	"unsafe"
)

// room is what the host may be given next. It is made before a call whose answer may be long: while
// the host asks for memory nothing else can be called, and the garbage collector, which an
// allocation might start, would ask for the time.
var room []uint64

func reserve(bytes int) {
	if len(room) < bytes/8 {
		room = make([]uint64, bytes/8)
	}
}

//go:wasmexport cabi_realloc
func realloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	words := int(size+7) / 8
	if words > len(room) {
		room = make([]uint64, words)
	}
	to := unsafe.Pointer(unsafe.SliceData(room))
	room = room[words:]
	if oldSize > 0 {
		copy(unsafe.Slice((*byte)(to), size), unsafe.Slice((*byte)(old), oldSize))
	}
	return to
}

// place is where an address of the host's leads: it writes 4 bytes, Go's own have 8.
func place(address uint32) unsafe.Pointer { return unsafe.Add(nil, address) }

// text is a string or a list of bytes as the host writes it.
type text struct{ at, size uint32 }

func (t text) bytes() []byte  { return unsafe.Slice((*byte)(place(t.at)), t.size) }
func (t text) String() string { return string(t.bytes()) }

type optionalText struct {
	is    uint8
	value text
}

func (t optionalText) String() string {
	if t.is == 0 {
		return ""
	}
	return t.value.String()
}

// either is a result whose value is a handle.
type either struct {
	isError uint8
	handle  uint32
}

// ofStream is a result of wasi:io/streams: bytes, or what went wrong.
type ofStream struct {
	isError uint8
	// The bytes' place; of an error: 0 for a failure, whose handle is in size, 1 for a closed stream.
	at, size uint32
}

var errGone = errors.New("the client is gone")

func (r *ofStream) err() error {
	switch {
	case r.isError == 0:
		return nil
	case uint8(r.at) == 1:
		return io.EOF
	default:
		dropError(r.size)
		return errGone
	}
}

var methods = [...]string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

func method(incoming uint32) string {
	var found optionalText
	requestMethod(incoming, unsafe.Pointer(&found))
	if int(found.is) < len(methods) {
		return methods[found.is]
	}
	return found.value.String()
}

func pathWithQuery(incoming uint32) string {
	var found optionalText
	requestPath(incoming, unsafe.Pointer(&found))
	return found.String()
}

func authority(incoming uint32) string {
	var found optionalText
	requestAuthority(incoming, unsafe.Pointer(&found))
	return found.String()
}

func requestHeaders(incoming uint32) http.Header {
	var list text
	fields := requestFields(incoming)
	fieldsEntries(fields, unsafe.Pointer(&list))
	headers := http.Header{}
	for _, entry := range unsafe.Slice((*[2]text)(place(list.at)), list.size) {
		headers.Add(entry[0].String(), entry[1].String())
	}
	dropFields(fields)
	return headers
}

func consume(incoming uint32) (*body, bool) {
	var found, stream either
	requestConsume(incoming, unsafe.Pointer(&found))
	if found.isError != 0 {
		return nil, false
	}
	bodyStream(found.handle, unsafe.Pointer(&stream))
	return &body{body: found.handle, stream: stream.handle}, stream.isError == 0
}

func blockingRead(stream uint32, most uint64) ([]byte, error) {
	var result ofStream
	reserve(int(most))
	inputRead(stream, most, unsafe.Pointer(&result))
	if err := result.err(); err != nil {
		return nil, err
	}
	return text{result.at, result.size}.bytes(), nil
}

func blockingWrite(stream uint32, part []byte) error {
	var result ofStream
	outputWrite(stream, unsafe.Pointer(unsafe.SliceData(part)), uint32(len(part)), unsafe.Pointer(&result))
	if result.err() != nil {
		return errGone
	}
	return nil
}

func sendHead(outparam uint32, status int, headers http.Header) (body, stream uint32, err error) {
	fields := newFields()
	for name, values := range headers {
		for _, value := range values {
			// A name that the host keeps to itself (connection, host) is left out.
			var refused [2]uint8
			fieldsAppend(fields, unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)),
				unsafe.Pointer(unsafe.StringData(value)), uint32(len(value)), unsafe.Pointer(&refused))
		}
	}
	response := newResponse(fields)
	responseStatus(response, uint32(status))
	var made, opened either
	responseBody(response, unsafe.Pointer(&made))
	bodyWrite(made.handle, unsafe.Pointer(&opened))
	outparamSet(outparam, 0, response, 0, 0, 0, 0, 0, 0)
	if made.isError != 0 || opened.isError != 0 {
		return 0, 0, errGone
	}
	return made.handle, opened.handle, nil
}

func finishBody(body uint32) {
	// Room for a result with an error code, which is aligned as its largest number.
	var result [5]uint64
	bodyFinish(body, 0, 0, unsafe.Pointer(&result))
}

//go:wasmimport wasi:http/types@0.2.0 [method]incoming-request.method
func requestMethod(self uint32, to unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.0 [method]incoming-request.path-with-query
func requestPath(self uint32, to unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.0 [method]incoming-request.authority
func requestAuthority(self uint32, to unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.0 [method]incoming-request.headers
func requestFields(self uint32) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]incoming-request.consume
func requestConsume(self uint32, to unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.0 [resource-drop]incoming-request
func dropRequest(self uint32)

//go:wasmimport wasi:http/types@0.2.0 [method]incoming-body.stream
func bodyStream(self uint32, to unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.0 [resource-drop]incoming-body
func dropIncomingBody(self uint32)

//go:wasmimport wasi:http/types@0.2.0 [constructor]fields
func newFields() uint32

//go:wasmimport wasi:http/types@0.2.0 [method]fields.entries
func fieldsEntries(self uint32, to unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.0 [method]fields.append
func fieldsAppend(self uint32, name unsafe.Pointer, nameSize uint32, value unsafe.Pointer, valueSize uint32, to unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.0 [resource-drop]fields
func dropFields(self uint32)

//go:wasmimport wasi:http/types@0.2.0 [constructor]outgoing-response
func newResponse(fields uint32) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]outgoing-response.set-status-code
func responseStatus(self, status uint32) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]outgoing-response.body
func responseBody(self uint32, to unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.0 [method]outgoing-body.write
func bodyWrite(self uint32, to unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.0 [static]outgoing-body.finish
func bodyFinish(self, hasTrailers, trailers uint32, to unsafe.Pointer)

// The response, or an error code with what it may hold.
//
//go:wasmimport wasi:http/types@0.2.0 [static]response-outparam.set
func outparamSet(self, isError, response, a uint32, b uint64, c, d, e, f uint32)

//go:wasmimport wasi:io/streams@0.2.0 [method]input-stream.blocking-read
func inputRead(self uint32, most uint64, to unsafe.Pointer)

//go:wasmimport wasi:io/streams@0.2.0 [resource-drop]input-stream
func dropInputStream(self uint32)

//go:wasmimport wasi:io/streams@0.2.0 [method]output-stream.blocking-write-and-flush
func outputWrite(self uint32, from unsafe.Pointer, size uint32, to unsafe.Pointer)

//go:wasmimport wasi:io/streams@0.2.0 [resource-drop]output-stream
func dropOutputStream(self uint32)

//go:wasmimport wasi:io/error@0.2.0 [resource-drop]error
func dropError(self uint32)
