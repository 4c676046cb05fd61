package link

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// maxListings bounds how often something is listed anew. Pods that come side by side
// interrupt a listing once or twice.
const maxListings = 20

// listed lists something of the kernel's, and lists it anew when it changed meanwhile:
// the kernel sends a list in parts, and says so if they do not belong together.
func listed[T any](list func() ([]T, error)) ([]T, error) {
	for tries := 1; ; tries++ {
		all, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || tries == maxListings {
			return all, err
		}
	}
}
