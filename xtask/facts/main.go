// Command facts reads what upstream Kubernetes knows about its own API types out of the packages it
// is built from, and writes it as data: a table of facts, or files of examples that tests compare with.
//
//	facts table  > facts.txt     the table that apiserver/schema parses
//	facts corpus DIR             protobuf bodies and strategic merge cases, computed by upstream
//
// Nothing here runs in CI; `cargo xtask facts` runs it when the Kubernetes version changes.
package main

import (
	"bufio"
	"fmt"
	"os"
)

// kubernetesVersion is what go.mod requires; it heads the table.
const kubernetesVersion = "v1.37.2"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "facts:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "table":
		out := bufio.NewWriter(os.Stdout)
		if err := writeTable(out); err != nil {
			return err
		}
		return out.Flush()
	case len(args) == 2 && args[0] == "corpus":
		return writeCorpus(args[1])
	}
	return fmt.Errorf("usage: facts table | facts corpus DIR")
}
