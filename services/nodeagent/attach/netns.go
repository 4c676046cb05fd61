package attach

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// errNetns is a path that is not a namespace that can be opened here.
var errNetns = errors.New("not a network namespace that the node agent can open")

// checkNetns looks at a path before anything is done for it, so that a wrong one
// is called wrong, and not a failure to be tried again.
func checkNetns(path string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return fmt.Errorf("netns %s: %w: %w", path, errNetns, err)
	}
	if fs.Type != unix.NSFS_MAGIC {
		return fmt.Errorf("netns %s: %w", path, errNetns)
	}
	return nil
}
