package main

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestItAnswers(t *testing.T) {
	cases := []struct {
		method, path, body string
		status             int
		expected           string
	}{
		{"GET", "/", "", 200, "Hello from {{name}}\n"},
		{"POST", "/echo", "there and back", 200, "there and back"},
		{"PUT", "/echo", "", 405, "Method Not Allowed\n"},
		{"GET", "/nowhere", "", 404, "404 page not found\n"},
	}
	handler := newHandler()
	for _, c := range cases {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
		if w.Code != c.status || w.Body.String() != c.expected {
			t.Errorf("%s %s: %d %q", c.method, c.path, w.Code, w.Body.String())
		}
	}
}
