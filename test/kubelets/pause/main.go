// Command pause does nothing until it is told to end: it holds a pod's namespaces, and
// is what runs in containers of which nothing else is wanted. As a pod's first process it
// buries orphans.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	end, orphans := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	signal.Notify(orphans, syscall.SIGCHLD)
	for {
		select {
		case <-end:
			return
		case <-orphans:
			for pid := 1; pid > 0; {
				pid, _ = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			}
		}
	}
}
