//go:build !wasip1

package main

import (
	"log"
	"net/http"
)

// On your own machine: `go run .`
func main() {
	log.Println("http://127.0.0.1:8080/")
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", newHandler()))
}
