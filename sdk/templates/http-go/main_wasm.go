//go:build wasip1

package main

import "{{name}}/internal/wasihttp"

// A component has no main: the node calls the handler, in an instance of its own a request.
func init() {
	wasihttp.Handler = newHandler()
}

func main() {}
