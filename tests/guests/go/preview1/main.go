// A command of WASI preview 1. Its first argument says what it does: "env" prints arguments,
// environment and working folder; "cat" copies stdin to stdout; "files DIR" writes and reads below
// DIR; "exit N" ends with N; "wait" waits; "panic" panics; "spin" computes for ever; "alloc MIB" takes memory.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
)

func main() {
	args := append(os.Args[1:], "env")
	switch args[0] {
	case "env":
		fmt.Println("arguments:", strings.Join(os.Args, " "))
		env := os.Environ()
		sort.Strings(env)
		for _, pair := range env {
			fmt.Println(pair)
		}
		fmt.Fprintln(os.Stderr, "to stderr")
	case "cat":
		copied, err := io.Copy(os.Stdout, os.Stdin)
		must(err)
		fmt.Fprintln(os.Stderr, "copied", copied)
	case "files":
		files(args[1])
	case "wait":
		fmt.Println("waiting in Go")
		for {
			time.Sleep(time.Second)
		}
	case "exit":
		code, err := strconv.Atoi(args[1])
		must(err)
		os.Exit(code)
	case "panic":
		panic("asked to")
	case "spin":
		fmt.Println("spinning")
		for n := 0; ; n++ {
			_ = n
		}
	case "alloc":
		mib, err := strconv.Atoi(args[1])
		must(err)
		held := make([][]byte, 0, mib)
		for range mib {
			block := make([]byte, 1<<20)
			for at := 0; at < len(block); at += 4096 {
				block[at] = 1
			}
			held = append(held, block)
		}
		fmt.Println("took", len(held))
	}
}

func files(folder string) {
	path := filepath.Join(folder, "made", "by-go.txt")
	must(os.MkdirAll(filepath.Dir(path), 0o755))
	must(os.WriteFile(path, []byte("one\n"), 0o644))
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	must(err)
	_, err = file.WriteString("two\n")
	must(err)
	must(file.Close())
	text, err := os.ReadFile(path)
	must(err)
	fmt.Printf("%q\n", text)
	must(os.Rename(path, path+".moved"))
	entries, err := os.ReadDir(filepath.Dir(path))
	must(err)
	for _, entry := range entries {
		fmt.Println("entry", entry.Name())
	}
	_, err = os.ReadFile(filepath.Join(folder, "..", "..", "etc", "passwd"))
	fmt.Println("outside:", errors.Is(err, fs.ErrNotExist) || err != nil)
}

func must(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}
