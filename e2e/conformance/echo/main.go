// Command echo is what the suite's pods run: a server that says what it got and, called as `client`, the client that the
// suite executes in them. Flags and output are those that the suite relies on.
package main

import (
	"os"
	"path/filepath"
)

func main() {
	if filepath.Base(os.Args[0]) == "client" {
		runClient(os.Args[1:])
		return
	}
	runServer(os.Args[1:])
}
